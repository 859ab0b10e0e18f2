package agent

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

func TestInterceptAndFailOpen(t *testing.T) {
	_, port := startApp(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
	if got := ask(t, a.capturePort()); got != "app\nhello" {
		t.Fatalf("before: %q", got)
	}

	alice := a.connect(t, "alice-1")
	serveLocal(t, alice, "laptop")
	flow, err := startIntercept(t, alice, "i1", port, "alice")
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, a.capturePort()); got != "laptop\nhello" {
		t.Fatalf("intercepted: %q", got)
	}

	bob := a.connect(t, "bob-1")
	var refused *tunnel.RefusedError
	if _, err := startIntercept(t, bob, "i2", port, "bob"); !errors.As(err, &refused) ||
		refused.Reason != tunnel.Conflict || !strings.Contains(refused.Message, "alice@host") {
		t.Errorf("second intercept: %v", err)
	}
	if _, err := startIntercept(t, bob, "i3", 1, "bob"); !errors.As(err, &refused) || refused.Reason != tunnel.Unknown {
		t.Errorf("intercept of a port not captured: %v", err)
	}
	i := mustInfo(t, bob)
	if len(i.Sessions) != 2 || len(i.Captures) != 1 || len(i.Captures[0].Holders) != 1 ||
		i.Captures[0].Holders[0].Owner.User != "alice" || i.Captures[0].IdleSeconds < 0 {
		t.Errorf("info: %+v", i)
	}

	// Leave: new connections to the app, the open one goes on.
	conn, err := net.Dial("tcp", a.capturePort())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	buf := make([]byte, 64)
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "laptop\n" {
		t.Fatalf("open connection: %q, %v", buf[:n], err)
	}
	_ = flow.Close()
	waitFor(t, "leave", func() bool { return ask(t, a.capturePort()) == "app\nhello" })
	_, _ = io.WriteString(conn, "still")
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "still" {
		t.Errorf("open connection after leave: %q, %v", buf[:n], err)
	}

	// The session dies: its connections are reset, new ones go to the app.
	if _, err = startIntercept(t, alice, "i4", port, "alice"); err != nil {
		t.Fatal(err)
	}
	_ = alice.Close()
	waitFor(t, "fail open", func() bool { return ask(t, a.capturePort()) == "app\nhello" })
	if _, err := conn.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("open connection after the session's death: %v", err)
	}
	if _, err = startIntercept(t, bob, "i5", port, "bob"); err != nil {
		t.Errorf("after alice is gone: %v", err)
	}
}

func TestRefusedByHandlerGoesToApp(t *testing.T) {
	_, port := startApp(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
	tun := a.connect(t, "s")
	if _, err := startIntercept(t, tun, "i", port, "u"); err != nil {
		t.Fatal(err)
	}
	answer := make(chan string)
	go func() { answer <- ask(t, a.capturePort()) }()
	r, err := tun.AcceptFlow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Refuse(tunnel.Refused, "no handler"); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; got != "app\nhello" {
		t.Errorf("got %q", got)
	}
}

// TestLeaveWhileOffered: the session has not answered when it leaves.
func TestLeaveWhileOffered(t *testing.T) {
	_, port := startApp(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
	tun := a.connect(t, "s")
	flow, err := startIntercept(t, tun, "i", port, "u")
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan string)
	go func() { answer <- ask(t, a.capturePort()) }()
	if _, err := tun.AcceptFlow(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = flow.Close()
	if got := <-answer; got != "app\nhello" {
		t.Errorf("got %q", got)
	}
}

func TestAppRefusesResetsClient(t *testing.T) {
	l, port := startApp(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
	_ = l.Close()
	conn, err := net.Dial("tcp", a.capturePort())
	if err == nil {
		defer func() { _ = conn.Close() }()
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) { // dial may see it already
		t.Errorf("client of an app that refuses: %v", err)
	}
}

func TestSessionReturns(t *testing.T) {
	_, port := startApp(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
	old := a.connect(t, "alice-1")
	serveLocal(t, old, "old")
	if _, err := startIntercept(t, old, "i", port, "alice"); err != nil {
		t.Fatal(err)
	}
	again := a.connect(t, "alice-1")
	serveLocal(t, again, "again")
	if _, err := startIntercept(t, again, "i", port, "alice"); err != nil {
		t.Fatalf("the same session again: %v", err)
	}
	_ = old.Close()
	for range 10 {
		if got := ask(t, a.capturePort()); got != "again\nhello" {
			t.Fatalf("got %q", got)
		}
	}
}

func TestDial(t *testing.T) {
	l, port := startApp(t)
	a := startAgent(t, Config{})
	tun := a.connect(t, "s")
	flow, err := tun.Open(t.Context(), tunnel.Target{Network: "tcp", Address: hostPort(podIP, port)})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(flow, "hello")
	_ = flow.CloseWrite()
	if b, err := io.ReadAll(flow); err != nil || string(b) != "app\nhello" {
		t.Errorf("answer %q, %v", b, err)
	}
	_ = flow.Close()
	_ = l.Close()
	for _, test := range []struct {
		network, address string
		reason           tunnel.Reason
	}{
		{"tcp", hostPort(podIP, port), tunnel.Refused},
		{"tcp", hostPort(podIP, a.ControlPort()), tunnel.Denied},
		{"tcp", "[::ffff:127.0.0.1]:" + strings.Split(hostPort(podIP, a.ControlPort()), ":")[1], tunnel.Denied},
		{"tcp", "localhost:80", tunnel.Denied},
		{"tcp", "224.0.0.1:80", tunnel.Denied},
		{"sctp", hostPort(podIP, port), tunnel.Unknown},
		{"agent", "nonsense", tunnel.Unknown},
	} {
		_, err := tun.Open(t.Context(), tunnel.Target{Network: test.network, Address: test.address})
		var refused *tunnel.RefusedError
		if !errors.As(err, &refused) || refused.Reason != test.reason {
			t.Errorf("%s %s: %v, not %v", test.network, test.address, err, test.reason)
		}
	}
}

func TestUDP(t *testing.T) {
	pc, err := net.ListenPacket("udp", hostPort(podIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(buf[:n], from)
		}
	}()
	a := startAgent(t, Config{})
	tun := a.connect(t, "s")
	target := tunnel.Target{Network: "udp", Address: pc.LocalAddr().String()}
	flow, err := tun.Open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	_ = flow.SetDeadline(time.Now().Add(10 * time.Second))
	for _, size := range []int{1, 1400, 60_000} {
		_, _ = flow.Write(make([]byte, size))
		if n, err := flow.Read(make([]byte, 65536)); n != size || err != nil {
			t.Errorf("echo of %d bytes: %d, %v", size, n, err)
		}
	}
	_ = flow.Close()
	_ = pc.Close()
	if flow, err = tun.Open(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	_ = flow.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = flow.Write([]byte("x"))
	if _, err := flow.Read(make([]byte, 10)); !errors.Is(err, tunnel.ErrReset) {
		t.Errorf("port that refuses: %v", err)
	}
}

func TestDrain(t *testing.T) {
	l, port := startApp(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}, DrainLimit: time.Minute})
	conn, err := net.Dial("tcp", a.capturePort())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	buf := make([]byte, 16)
	if _, err := conn.Read(buf); err != nil {
		t.Fatal(err)
	}
	a.end()
	for range 10 { // the app still accepts, so the agent does
		if got := ask(t, a.capturePort()); got != "app\nhello" {
			t.Fatalf("while draining: %q", got)
		}
	}
	_ = l.Close()
	_, _ = io.WriteString(conn, "still")
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "still" {
		t.Fatalf("open connection while draining: %q, %v", buf[:n], err)
	}
	select {
	case err := <-a.done:
		t.Fatalf("agent ended with an open connection: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	_ = conn.Close()
	a.waitEnd(t)
}

func TestIdleExit(t *testing.T) {
	a := startAgent(t, Config{IdleExit: 500 * time.Millisecond})
	tun := a.connect(t, "s")
	select {
	case err := <-a.done:
		t.Fatalf("agent ended while in use: %v", err)
	case <-time.After(time.Second):
	}
	_ = tun.Close()
	a.waitEnd(t)
}
