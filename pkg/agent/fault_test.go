package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

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
	a := startAgent(t, Config{Captures: []Capture{{App: port}}, PingInterval: 250 * time.Millisecond})
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
	a := startAgent(t, Config{Captures: []Capture{{App: port}}, OfferTimeout: 50 * time.Millisecond})
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

// TestResetPassesThrough: both ways, forwarded and intercepted.
func TestResetPassesThrough(t *testing.T) {
	l, err := net.Listen("tcp", hostPort(podIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	port := portOf(l.Addr())
	a := startAgent(t, Config{Captures: []Capture{{App: port}}})
	tun := a.connect(t, "s")

	type ends struct{ client, server net.Conn }
	forwarded := func(t *testing.T) ends {
		c, err := net.Dial("tcp", a.capturePort())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return ends{c, s}
	}
	intercepted := func(t *testing.T) ends {
		if _, err := startIntercept(t, tun, "i", port, "u"); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", a.capturePort())
		if err != nil {
			t.Fatal(err)
		}
		r, err := tun.AcceptFlow(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f, err := r.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return ends{c, f}
	}
	dialed := func(t *testing.T) ends {
		f, err := tun.Open(t.Context(), tunnel.Target{Network: "tcp", Address: l.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return ends{f, s}
	}
	for name, connect := range map[string]func(*testing.T) ends{"forwarded": forwarded, "intercepted": intercepted, "dialed": dialed} {
		for _, fromClient := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, from client %v", name, fromClient), func(t *testing.T) {
				e := connect(t)
				from, to := e.server, e.client
				if fromClient {
					from, to = e.client, e.server
				}
				_, _ = io.WriteString(from, "x")
				_ = to.SetReadDeadline(time.Now().Add(10 * time.Second))
				if _, err := io.ReadFull(to, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				switch from := from.(type) {
				case *net.TCPConn:
					_ = from.SetLinger(0)
					_ = from.Close()
				case *tunnel.Flow:
					_ = from.Reset()
				}
				if _, err := to.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("read: %v", err)
				}
				_ = to.Close()
			})
		}
	}
}

// fill writes until nothing more is taken: a write at the other end waits.
func fill(t *testing.T, f *tunnel.Flow) {
	t.Helper()
	_ = f.SetWriteDeadline(time.Now().Add(30 * time.Millisecond))
	if _, err := f.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("write: %v", err)
	}
}

// TestResetWhileWriteWaits: the kernel tells of a reset once, and the write may
// be who is told.
func TestResetWhileWriteWaits(t *testing.T) {
	l, err := net.Listen("tcp", hostPort(podIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	port := portOf(l.Addr())
	a := startAgent(t, Config{Captures: []Capture{{App: port}}})
	tun := a.connect(t, "s")
	if _, err := startIntercept(t, tun, "i", port, "u"); err != nil {
		t.Fatal(err)
	}
	captured := func() (net.Conn, *tunnel.Flow) {
		c, err := net.Dial("tcp", a.capturePort())
		if err != nil {
			t.Fatal(err)
		}
		r, err := tun.AcceptFlow(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f, err := r.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return c, f
	}
	dialed := func() (net.Conn, *tunnel.Flow) {
		f, err := tun.Open(t.Context(), tunnel.Target{Network: "tcp", Address: l.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return c, f
	}
	for name, connect := range map[string]func() (net.Conn, *tunnel.Flow){"captured": captured, "dialed": dialed} {
		t.Run(name, func(t *testing.T) {
			for range 30 {
				c, f := connect()
				_ = c.(*net.TCPConn).SetReadBuffer(4096)
				fill(t, f)
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
				_ = f.SetReadDeadline(time.Now().Add(10 * time.Second))
				if _, err := f.Read(make([]byte, 1)); !errors.Is(err, tunnel.ErrReset) {
					t.Errorf("read: %v", err)
				}
				_ = f.Close()
			}
		})
	}
}

// TestEndsWithItsSession: a connection that waits for a server which neither
// reads nor writes, and one whose client has finished, end when their session
// does.
func TestEndsWithItsSession(t *testing.T) {
	l, err := net.Listen("tcp", hostPort(podIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	a := startAgent(t, Config{})
	for name, use := range map[string]func(*tunnel.Flow, net.Conn){
		"finished": func(f *tunnel.Flow, server net.Conn) {
			_ = f.CloseWrite()
			if _, err := io.Copy(io.Discard, server); err != nil {
				t.Fatal(err)
			}
		},
		"stalled": func(f *tunnel.Flow, server net.Conn) { fill(t, f) },
	} {
		for how, end := range map[string]func(*tunnel.Tunnel, *tunnel.Flow){
			"session ends": func(tun *tunnel.Tunnel, _ *tunnel.Flow) { _ = tun.Close() },
			"reset":        func(_ *tunnel.Tunnel, f *tunnel.Flow) { _ = f.Reset() },
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				tun := a.connect(t, "s")
				f, err := tun.Open(t.Context(), tunnel.Target{Network: "tcp", Address: l.Addr().String()})
				if err != nil {
					t.Fatal(err)
				}
				server, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = server.Close() }()
				use(f, server)
				end(tun, f)
				_ = tun.Close() // which waits for what it has carried
				waitFor(t, "the session has left", func() bool { return len(a.reg.live()) == 0 })
			})
		}
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
	a := startAgent(t, Config{Captures: []Capture{{App: port}}})
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
	a := startAgent(t, Config{Captures: []Capture{{App: port}}})
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

func TestAssociationEndsWhenIdle(t *testing.T) {
	server, err := net.ListenPacket("udp", hostPort(podIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	a := startAgent(t, Config{})
	tun := a.connect(t, "s")
	opened := make(chan *tunnel.Flow, 1)
	go func() {
		// The laptop's end stands for the agent's here, to choose the time.
		f, err := tun.Open(context.Background(), tunnel.Target{Network: "udp", Address: server.LocalAddr().String()})
		if err != nil {
			t.Error(err)
		}
		opened <- f
	}()
	flow := <-opened
	if flow == nil {
		t.FailNow()
	}
	conn, err := net.Dial("udp", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	ended := make(chan error)
	go func() { ended <- relayDatagrams(flow, conn.(*net.UDPConn), 150*time.Millisecond) }()
	for range 5 { // keeps it alive
		time.Sleep(50 * time.Millisecond)
		_, _ = server.WriteTo([]byte("x"), conn.LocalAddr())
	}
	if err := <-ended; err == nil {
		t.Error("ended without a reason")
	}
	if took := time.Since(start); took < 300*time.Millisecond {
		t.Errorf("ended after %v, while in use", took)
	}
}

// TestIdleFlowsAreSmall: connections that do nothing hold neither buffers nor
// goroutines, and wake up again.
func TestIdleFlowsAreSmall(t *testing.T) {
	l, err := net.Listen("tcp", hostPort(podIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	a := startAgent(t, Config{})
	tun := a.connect(t, "s")
	askInfo(t, tun) // it serves
	goroutines := runtime.NumGoroutine()
	type connection struct {
		flow   *tunnel.Flow
		server net.Conn
	}
	talk := func(c connection) {
		t.Helper()
		_, _ = io.WriteString(c.flow, "x")
		_, _ = io.WriteString(c.server, "y")
		if _, err := c.flow.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.server.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	var all []connection
	for range 200 {
		f, err := tun.Open(t.Context(), tunnel.Target{Network: "tcp", Address: l.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = f.Close(), s.Close() }()
		all = append(all, connection{f, s})
		talk(all[len(all)-1])
	}
	idle := func() bool {
		return a.budget.Held() == 0 && (runtime.GOOS != "linux" || runtime.NumGoroutine() <= goroutines)
	}
	waitFor(t, "buffers and goroutines are given back", idle)
	for _, c := range all {
		talk(c)
	}
	waitFor(t, "buffers and goroutines are given back again", idle)
}

// TestIdleAssociationsAreSmall: a port scan of a range makes thousands.
func TestIdleAssociationsAreSmall(t *testing.T) {
	server, err := net.ListenPacket("udp", hostPort(podIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	a := startAgent(t, Config{})
	tun := a.connect(t, "s")
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	const associations = 200
	buf := make([]byte, 10)
	for range associations {
		f, err := tun.Open(t.Context(), tunnel.Target{Network: "udp", Address: server.LocalAddr().String()})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		_, _ = f.Write([]byte("x"))
		_, from, err := server.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = server.WriteTo([]byte("y"), from)
		if _, err := f.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "each takes less than 16 KiB", func() bool { return heap() < before+associations*16<<10 })
}
