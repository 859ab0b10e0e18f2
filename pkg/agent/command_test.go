package agent

import (
	"bytes"
	"context"
	"encoding/hex"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
	"github.com/kubectl-tele/kubectl-tele/pkg/version"
)

func TestCommand(t *testing.T) {
	key := strings.Repeat("ab", 32)
	env := map[string]string{api.EnvKey: key, api.EnvPodIP: "10.1.1.1, fd00::1"}
	getenv := func(k string) string { return env[k] }
	run := func(ctx context.Context, args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		code := Command(ctx, args, getenv, strings.NewReader(""), &out, &errs)
		return code, out.String(), errs.String()
	}
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "usage: tele-agent serve"},
		{[]string{"dance"}, 2, `unknown command "dance"`},
		{[]string{"serve", "--capture=1"}, 1, "is not LISTEN:APP"},
		{[]string{"serve", "--control-port=99999"}, 1, "out of range"},
		{[]string{"serve", "now"}, 2, `unexpected argument "now"`},
		{[]string{"stdio", "--control-port=1"}, 1, "connection refused"},
		{[]string{"check", "--control-port=1"}, 1, "connection refused"},
	} {
		if code, _, errs := run(t.Context(), test.args...); code != test.code || !strings.Contains(errs, test.want) {
			t.Errorf("%q: %d, %q", test.args, code, errs)
		}
	}
	if code, out, _ := run(t.Context(), "version"); code != 0 || !strings.HasPrefix(out, version.Version) {
		t.Errorf("version: %d, %q", code, out)
	}

	env[api.EnvKey] = "secret"
	if code, _, errs := run(t.Context(), "serve"); code != 1 || !strings.Contains(errs, "64 hexadecimal digits") || strings.Contains(errs, "secret") {
		t.Errorf("bad key: %d, %q", code, errs)
	}
	env[api.EnvKey] = key
	env[api.EnvPodIP] = "127.0.0.1"
	if code, _, errs := run(t.Context(), "serve", "--capture=18081:18080"); code != 1 || !strings.Contains(errs, "127.0.0.1 is not one") {
		t.Errorf("bad address: %d, %q", code, errs)
	}
}

// TestServeAndCheck runs both commands; serve without captures ends at once.
func TestServeAndCheck(t *testing.T) {
	env := map[string]string{api.EnvKey: strings.Repeat("ab", 32)}
	getenv := func(k string) string { return env[k] }
	a := startAgent(t, Config{}) // to learn of a free port
	port := a.ControlPort()
	a.end()
	a.waitEnd(t)
	flag := "--control-port=" + strings.TrimPrefix(hostPort(podIP, port), podIP.String()+":")

	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan int)
	var errs bytes.Buffer
	go func() { served <- Command(ctx, []string{"serve", flag}, getenv, nil, &bytes.Buffer{}, &errs) }()
	waitFor(t, "check", func() bool {
		return Command(t.Context(), []string{"check", flag}, getenv, nil, &bytes.Buffer{}, &bytes.Buffer{}) == 0
	})
	wrong := func(string) string { return strings.Repeat("cd", 32) }
	if Command(t.Context(), []string{"check", flag}, wrong, nil, &bytes.Buffer{}, &bytes.Buffer{}) == 0 {
		t.Error("check of an agent with another key")
	}
	laptop, far := net.Pipe()
	carried := make(chan int)
	go func() { carried <- Command(t.Context(), []string{"stdio", flag}, getenv, far, far, &errs) }()
	raw, err := hex.DecodeString(env[api.EnvKey])
	if err != nil {
		t.Fatal(err)
	}
	tun, err := tunnel.Dial(t.Context(), func(context.Context) (net.Conn, error) { return laptop, nil }, tunnel.Config{Key: raw, Session: "by-exec"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := askInfo(t.Context(), tun); err != nil {
		t.Errorf("an agent reached by stdio: %v", err)
	}
	_ = tun.Close()
	if code := <-carried; code != 0 {
		t.Errorf("stdio: %d, %s", code, errs.String())
	}
	cancel()
	select {
	case code := <-served:
		if code != 0 {
			t.Errorf("serve: %d, %s", code, errs.String())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("serve did not end")
	}
}

func TestFit(t *testing.T) {
	for limit, want := range map[int64]struct {
		buffers int64
		flows   int
	}{
		1<<63 - 1: {0, 0},
		100 << 20: {50 << 20, 12_800},
		1 << 20:   {4 << 20, 1000},
		8 << 30:   {4 << 30, 20_000},
	} {
		if buffers, flows := fit(limit); buffers != want.buffers || flows != want.flows {
			t.Errorf("limit %d: %d, %d", limit, buffers, flows)
		}
	}
}
