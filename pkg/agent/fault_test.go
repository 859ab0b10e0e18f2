package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// frozenLane lets nothing pass any more after freeze; nothing fails either.
type frozenLane struct {
	net.Conn
	frozen, closed chan struct{}
	once           sync.Once
}

func (l *frozenLane) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	return n, l.wait(err)
}

func (l *frozenLane) Write(p []byte) (int, error) {
	if err := l.wait(nil); err != nil {
		return 0, err
	}
	return l.Conn.Write(p)
}

func (l *frozenLane) wait(err error) error {
	select {
	case <-l.frozen:
		<-l.closed
		return net.ErrClosed
	default:
		return err
	}
}

func (l *frozenLane) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Conn.Close()
}

func (a *testAgent) connectFrozen(t *testing.T, session string) (tun *tunnel.Tunnel, freeze func()) {
	t.Helper()
	lane := &frozenLane{frozen: make(chan struct{}), closed: make(chan struct{})}
	dial := func(context.Context) (net.Conn, error) {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", a.ControlPort()))
		lane.Conn = c
		return lane, err
	}
	tun, err := tunnel.Dial(t.Context(), dial, tunnel.Config{Key: testKey, Session: session})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tun.Close() })
	return tun, func() { close(lane.frozen) }
}

// TestFrozenLaptop: a connection made while the laptop does not answer waits
// and then reaches the app, nothing of it lost; the ones the laptop had are
// reset.
func TestFrozenLaptop(t *testing.T) {
	_, port := startApp(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}, PingInterval: 250 * time.Millisecond})
	tun, freeze := a.connectFrozen(t, "s")
	serveLocal(t, tun, "laptop")
	if _, err := startIntercept(t, tun, "i", port, "u"); err != nil {
		t.Fatal(err)
	}
	open, err := net.Dial("tcp", a.capturePort())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
	buf := make([]byte, 16)
	if n, err := open.Read(buf); err != nil || string(buf[:n]) != "laptop\n" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	freeze()
	start := time.Now()
	if got := ask(t, a.capturePort()); got != "app\nhello" {
		t.Errorf("got %q", got)
	}
	if took := time.Since(start); took < 500*time.Millisecond {
		t.Errorf("did not wait for the laptop: %v", took)
	}
	_ = open.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := open.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("connection of the laptop: %v", err)
	}
}

// TestSilentSession: alive, but it never answers the offer.
func TestSilentSession(t *testing.T) {
	_, port := startApp(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}, OfferTimeout: 50 * time.Millisecond})
	tun := a.connect(t, "s")
	if _, err := startIntercept(t, tun, "i", port, "u"); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, a.capturePort()); got != "app\nhello" {
		t.Errorf("got %q", got)
	}
}

// TestHandshakeFlood: strangers that say nothing do not keep the laptop out
// for longer than they may stay.
func TestHandshakeFlood(t *testing.T) {
	a := startAgent(t, Config{})
	addr := fmt.Sprintf("127.0.0.1:%d", a.ControlPort())
	var conns []net.Conn
	for range maxHandshakes {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	extra, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := extra.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("one too many: %v", err)
	}
	for _, c := range append(conns, extra) {
		_ = c.Close()
	}
	dial := func(context.Context) (net.Conn, error) { return net.Dial("tcp", addr) }
	waitFor(t, "a laptop is let in", func() bool {
		tun, err := tunnel.Dial(t.Context(), dial, tunnel.Config{Key: testKey, Session: "s"})
		if err != nil {
			return false
		}
		return tun.Close() == nil
	})
	if _, err := tunnel.Dial(t.Context(), dial, tunnel.Config{Key: make([]byte, 32), Session: "s"}); !errors.Is(err, tunnel.ErrUnauthenticated) {
		t.Errorf("wrong key: %v", err)
	}
}

// TestLateAnswer: a server that answers after the client's FIN; its whole
// answer arrives.
func TestLateAnswer(t *testing.T) {
	l, err := net.Listen("tcp", hostPort(podIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	const size = 3_000_000
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, c)
				time.Sleep(100 * time.Millisecond)
				_, _ = c.Write(make([]byte, size))
				_ = c.Close()
			}()
		}
	}()
	port := portOf(l.Addr())
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
	tun := a.connect(t, "s")
	if got := ask(t, a.capturePort()); len(got) != size {
		t.Errorf("forwarded: %d bytes", len(got))
	}
	f, err := tun.Open(t.Context(), tunnel.Target{Network: "tcp", Address: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	_ = f.CloseWrite()
	if got, err := io.ReadAll(f); len(got) != size || err != nil {
		t.Errorf("dialed: %d bytes, %v", len(got), err)
	}
	_ = f.Close()
}

// TestLeaveIsConfirmed: io.EOF after CloseWrite means that no new connection
// comes any more.
func TestLeaveIsConfirmed(t *testing.T) {
	_, port := startApp(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
	tun := a.connect(t, "s")
	serveLocal(t, tun, "laptop")
	for range 20 {
		flow, err := startIntercept(t, tun, "i", port, "u")
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, a.capturePort()); got != "laptop\nhello" {
			t.Fatalf("intercepted: %q", got)
		}
		_ = flow.CloseWrite()
		if _, err := flow.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("leave: %v", err)
		}
		if got := ask(t, a.capturePort()); got != "app\nhello" {
			t.Fatalf("after leave: %q", got)
		}
		_ = flow.Close()
	}
}
