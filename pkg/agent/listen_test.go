package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

func listen(t *testing.T, tun *tunnel.Tunnel, captures ...api.Capture) ([]api.Capture, error) {
	t.Helper()
	flow, err := openService(t, tun, api.ServiceListen, api.ListenRequest{Captures: captures})
	if err != nil {
		return nil, err
	}
	defer func() { _ = flow.Close() }()
	reply, err := api.ReadListenReply(flow)
	if err != nil {
		return nil, err
	}
	if _, err := flow.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the answer: %v", err)
	}
	return reply.Captures, nil
}

func mustListen(t *testing.T, tun *tunnel.Tunnel, captures ...api.Capture) []api.Capture {
	t.Helper()
	got, err := listen(t, tun, captures...)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(captures) {
		t.Fatalf("asked for %v, got %v", captures, got)
	}
	return got
}

// TestListen: a capture that is added works like one from the beginning, and
// outlives the session that asked for it.
func TestListen(t *testing.T) {
	_, port := startApp(t)
	a := startAgent(t, Config{})
	alice := a.connect(t, "alice")
	got := mustListen(t, alice, api.Capture{App: port})
	if got[0].App != port || got[0].Listen == 0 {
		t.Fatalf("captured as %v", got)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", got[0].Listen)
	if answer := ask(t, addr); answer != "app\nhello" {
		t.Errorf("before the registration: %q", answer)
	}
	serveLocal(t, alice, "laptop")
	if _, err := startIntercept(t, alice, "i", port, "alice"); err != nil {
		t.Fatal(err)
	}
	if answer := ask(t, addr); answer != "laptop\nhello" {
		t.Errorf("intercepted: %q", answer)
	}
	bob := a.connect(t, "bob")
	info := mustInfo(t, bob)
	if len(info.Captures) != 1 || info.Captures[0].Capture != got[0] || len(info.Captures[0].Holders) != 1 || !info.Has(api.FeatureListen) {
		t.Errorf("info %+v", info)
	}
	_ = alice.Close()
	waitFor(t, "the app has the port again", func() bool { return ask(t, addr) == "app\nhello" })
}

// TestListenAgain: what is captured is not captured twice.
func TestListenAgain(t *testing.T) {
	_, first := startApp(t)
	_, second := startApp(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: first}}})
	tun := a.connect(t, "s")
	have := a.CapturePorts()[0]
	got := mustListen(t, tun, api.Capture{App: second}, api.Capture{App: first}, api.Capture{Listen: have, App: first}, api.Capture{App: second})
	if got[0].App != second || got[1] != (api.Capture{Listen: have, App: first}) || got[2] != got[1] || got[3] != got[0] {
		t.Errorf("asked for the same twice and for what there is, got %v", got)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if again, err := listen(t, tun, api.Capture{App: second}); err != nil || again[0] != got[0] {
				t.Errorf("again: %v, %v", again, err)
			}
		})
	}
	wg.Wait()
	if n := len(a.CapturePorts()); n != 2 {
		t.Errorf("%d captures", n)
	}
}

// TestListenRefused: all captures are added or none.
func TestListenRefused(t *testing.T) {
	_, first := startApp(t)
	taken, second := startApp(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: first}}})
	tun := a.connect(t, "s")
	have := a.CapturePorts()[0]
	for _, test := range []struct {
		captures []api.Capture
		reason   tunnel.Reason
		text     string
	}{
		{[]api.Capture{{App: second}, {Listen: portOf(taken.Addr()), App: 1}}, tunnel.Conflict, fmt.Sprintf("capture %d:1: listen", portOf(taken.Addr()))},
		{[]api.Capture{{App: second}, {Listen: have, App: 1}}, tunnel.Conflict, fmt.Sprintf("port %d is listened on twice", have)},
		{[]api.Capture{{App: second}, {Listen: a.ControlPort(), App: 1}}, tunnel.Conflict, "is listened on twice"},
		{[]api.Capture{{App: second}, {Listen: 1}}, tunnel.Unknown, "0 is not a port"},
		{nil, tunnel.Unknown, "no captures"},
	} {
		_, err := listen(t, tun, test.captures...)
		refusedFor(t, err, test.reason, test.text)
	}
	_, err := openService(t, tun, api.ServiceListen, map[string]any{"captures": []api.Capture{{App: second}}, "redirect": true})
	refusedFor(t, err, tunnel.Unknown, `unknown field "redirect"`)
	if got := a.CapturePorts(); len(got) != 1 {
		t.Errorf("after the refusals the agent listens on %v", got)
	}
	if _, err := startIntercept(t, tun, "i", second, "u"); err == nil {
		t.Error("a port whose capture was refused can be intercepted")
	}
}

// TestDrainWithAddedCapture: it is waited for like one from the beginning.
func TestDrainWithAddedCapture(t *testing.T) {
	l, port := startApp(t)
	a := startAgent(t, Config{DrainLimit: time.Minute})
	got := mustListen(t, a.connect(t, "s"), api.Capture{App: port})
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", got[0].Listen))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	buf := make([]byte, 16)
	if _, err := conn.Read(buf); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	a.end()
	select {
	case err := <-a.done:
		a.done <- err
		t.Fatalf("agent ended with an open connection: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	_ = conn.Close()
	a.waitEnd(t)
	if got, err := a.captures.add([]api.Capture{{App: port}}); !errors.Is(err, errClosing) {
		t.Errorf("an agent that has ended captures %v, %v", got, err)
	}
}
