package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// probe asks for a probe and reads the answer. The flow holds the connection.
func probe(t *testing.T, tun *tunnel.Tunnel, address string, mss uint16) (*tunnel.Flow, api.ProbeReply) {
	t.Helper()
	flow, err := openService(t, tun, api.ServiceProbe, api.ProbeRequest{Address: address, MSS: mss})
	if err != nil {
		t.Fatal(err)
	}
	reply, err := api.ReadProbeReply(flow)
	if err != nil {
		t.Fatal(err)
	}
	return flow, reply
}

// offered returns the next captured connection that a session is offered.
func offered(t *testing.T, tun *tunnel.Tunnel) (*tunnel.Request, api.Captured) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := tun.AcceptFlow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var c api.Captured
	if err := json.Unmarshal(r.Target().Meta, &c); err != nil {
		t.Fatal(err)
	}
	return r, c
}

// marksOf returns the marks that a captured connection is taken for.
func marksOf(c api.Captured) []uint16 {
	return slices.DeleteFunc(api.ProbeMarks(), func(m uint16) bool { return !(api.ProbeRequest{MSS: m}).Announced(c.MSS) })
}

// TestProbe: a session at one agent marks a connection, the session at the
// agent where it arrives recognises it, and nothing was sent.
func TestProbe(t *testing.T) {
	_, port := startApp(t)
	far := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
	near := startAgent(t, Config{})
	alice, bob := far.connect(t, "alice"), near.connect(t, "bob")
	if info := mustInfo(t, bob); !info.Has(api.FeatureProbe) {
		t.Errorf("features %v", info.Features)
	}
	if _, err := startIntercept(t, alice, "i", port, "alice"); err != nil {
		t.Fatal(err)
	}
	for _, mark := range api.ProbeMarks() {
		held, reply := probe(t, bob, far.capturePort(), mark)
		if !reply.Connected || reply.Error != "" {
			t.Fatalf("probe: %+v", reply)
		}
		r, c := offered(t, alice)
		if got := marksOf(c); !slices.Equal(got, []uint16{mark}) {
			t.Errorf("the probe with %d arrives with MSS %d, which is taken for %v", mark, c.MSS, got)
		}
		flow, err := r.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = held.Close()
		_ = flow.SetReadDeadline(time.Now().Add(10 * time.Second))
		if b, err := io.ReadAll(flow); len(b) > 0 || err != nil {
			t.Errorf("the probe sent %q and ended with %v", b, err)
		}
		_ = flow.Close()
	}
	client, err := net.Dial("tcp", far.capturePort())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	r, c := offered(t, alice)
	if got := marksOf(c); c.MSS == 0 || len(got) > 0 {
		t.Errorf("an ordinary client arrives with MSS %d, which is taken for %v", c.MSS, got)
	}
	_ = r.Refuse(tunnel.Refused, "")
}

// TestProbeOfApp: an app gets a connection that opens and closes, without a
// byte and without a reset, also if it speaks first.
func TestProbeOfApp(t *testing.T) {
	for how, end := range map[string]func(*tunnel.Tunnel, *tunnel.Flow){
		"flow ends":    func(_ *tunnel.Tunnel, f *tunnel.Flow) { _ = f.Close() },
		"half-close":   func(_ *tunnel.Tunnel, f *tunnel.Flow) { _ = f.CloseWrite() },
		"session ends": func(tun *tunnel.Tunnel, _ *tunnel.Flow) { _ = tun.Close() },
		"time passes":  func(*tunnel.Tunnel, *tunnel.Flow) {},
	} {
		t.Run(how, func(t *testing.T) {
			l, err := net.Listen("tcp", hostPort(podIP, 0))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			cfg := Config{ProbeHold: time.Minute}
			if how == "time passes" {
				cfg.ProbeHold = 300 * time.Millisecond
			}
			a := startAgent(t, cfg)
			tun := a.connect(t, "s")
			flow, reply := probe(t, tun, l.Addr().String(), api.ProbeMSSMin)
			if !reply.Connected {
				t.Fatalf("probe: %+v", reply)
			}
			app, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = app.Close() }()
			_, _ = io.WriteString(app, "220 ready\r\n")
			_ = app.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if n, err := app.Read(make([]byte, 1)); n > 0 || errors.Is(err, io.EOF) {
				t.Errorf("while the probe is held: %d bytes, %v", n, err)
			}
			end(tun, flow)
			_ = app.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := app.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
				t.Errorf("at the end of the probe: %d bytes, %v", n, err)
			}
			if how == "time passes" {
				_ = flow.SetReadDeadline(time.Now().Add(10 * time.Second))
				if _, err := flow.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("the flow ends with %v", err)
				}
			}
			_ = flow.Close()
		})
	}
}

func TestProbeFails(t *testing.T) {
	l, port := startApp(t)
	_ = l.Close()
	a := startAgent(t, Config{})
	tun := a.connect(t, "s")
	flow, reply := probe(t, tun, hostPort(podIP, port), api.ProbeMSSMin)
	if reply.Connected || !strings.Contains(reply.Error, "connection refused") {
		t.Errorf("probe of a port that refuses: %+v", reply)
	}
	_ = flow.Close()
	for _, test := range []struct {
		request any
		reason  tunnel.Reason
		text    string
	}{
		{api.ProbeRequest{Address: fmt.Sprintf("127.0.0.1:%d", a.ControlPort()), MSS: 600}, tunnel.Denied, "loopback"},
		{api.ProbeRequest{Address: "224.0.0.1:80", MSS: 600}, tunnel.Denied, "cannot be dialed"},
		{api.ProbeRequest{Address: "10.0.0.1:80", MSS: 601}, tunnel.Unknown, "MSS 601"},
		{map[string]any{"address": "10.0.0.1:80", "mss": 600, "payload": "x"}, tunnel.Unknown, `unknown field "payload"`},
	} {
		_, err := openService(t, tun, api.ServiceProbe, test.request)
		refusedFor(t, err, test.reason, test.text)
	}
}
