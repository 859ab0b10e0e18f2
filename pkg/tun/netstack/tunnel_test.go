package netstack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// tunnelPair is the two ends of a tunnel within this process.
func tunnelPair(tb testing.TB) (laptop, agent *tunnel.Tunnel) {
	tb.Helper()
	cfg := tunnel.Config{Key: bytes.Repeat([]byte{7}, 32), Session: "test"}
	server, err := tunnel.NewServer(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	tb.Cleanup(wg.Wait)
	accepted := make(chan *tunnel.Tunnel, 1)
	laptop, err = tunnel.Dial(tb.Context(), func(context.Context) (net.Conn, error) {
		c, s := net.Pipe()
		wg.Go(func() {
			if t, first, err := server.Handle(context.Background(), s); err == nil && first {
				accepted <- t
			}
		})
		return c, nil
	}, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	agent = <-accepted
	tb.Cleanup(func() { _, _ = laptop.Close(), agent.Close() })
	return laptop, agent
}

// dialOver makes a DialTCP that opens flows.
func dialOver(laptop *tunnel.Tunnel) func(context.Context, netip.AddrPort) (splice.Carrier, error) {
	return func(ctx context.Context, dst netip.AddrPort) (splice.Carrier, error) {
		return laptop.Open(ctx, tunnel.Target{Network: "tcp", Address: dst.String()})
	}
}

// overTunnel makes what puts a flow of a tunnel in front of a connection.
func overTunnel(tb testing.TB) (carry func(*net.TCPConn) (splice.Carrier, error)) {
	tb.Helper()
	var wg sync.WaitGroup
	tb.Cleanup(wg.Wait)
	laptop, agent := tunnelPair(tb)
	return func(conn *net.TCPConn) (splice.Carrier, error) {
		wg.Go(func() {
			req, err := agent.AcceptFlow(context.Background())
			if err != nil {
				return
			}
			if flow, err := req.Accept(); err == nil {
				_, _ = splice.Splice(context.Background(), flow, conn)
			}
		})
		return laptop.Open(context.Background(), tunnel.Target{Network: "tcp", Address: "test"})
	}
}

// TestIdleNeedsNoGoroutine: of connections that have said a word each way and
// are at rest.
func TestIdleNeedsNoGoroutine(t *testing.T) {
	leaks(t)
	laptop, agent := tunnelPair(t)
	start(t, Config{DialTCP: dialOver(laptop)})
	word := []byte("word")
	open := func() {
		near, far := openOverTunnel(t, agent)
		for _, ends := range [][2]net.Conn{{near, far}, {far, near}} {
			buf := make([]byte, len(word))
			if _, err := ends[0].Write(word); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(ends[1], buf); err != nil || !bytes.Equal(buf, word) {
				t.Fatalf("%q, %v", buf, err)
			}
		}
	}
	open()
	before := runtime.NumGoroutine()
	const connections = 200
	for range connections {
		open()
	}
	until(t, "goroutines have ended", func() bool { return runtime.NumGoroutine() < before+connections/10 })
}

// openOverTunnel is an application's connection and the flow it leads to.
func openOverTunnel(t *testing.T, agent *tunnel.Tunnel) (app net.Conn, far *tunnel.Flow) {
	t.Helper()
	accepted := make(chan *tunnel.Flow, 1)
	go func() {
		defer close(accepted)
		if req, err := agent.AcceptFlow(t.Context()); err == nil {
			if flow, err := req.Accept(); err == nil {
				accepted <- flow
			}
		}
	}()
	app, err := dial(t, "tcp", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	if far = <-accepted; far == nil {
		t.Fatal("no flow")
	}
	return app, far
}

// TestResetWhileWriteWaits: the endpoint tells of a reset once, and the write
// may be who is told.
func TestResetWhileWriteWaits(t *testing.T) {
	leaks(t)
	laptop, agent := tunnelPair(t)
	start(t, Config{DialTCP: dialOver(laptop)})
	for range 30 {
		app, far := openOverTunnel(t, agent)
		_ = app.(*net.TCPConn).SetReadBuffer(8192)
		_ = far.SetWriteDeadline(time.Now().Add(30 * time.Millisecond))
		if _, err := far.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("write: %v", err)
		}
		_ = app.(*net.TCPConn).SetLinger(0)
		_ = app.Close()
		_ = far.SetReadDeadline(time.Now().Add(limit))
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, tunnel.ErrReset) {
			t.Errorf("read: %v", err)
		}
		_ = far.Close()
	}
}

// TestTunnelEndsAfterFIN: the connection of an application whose server has
// finished, and which neither reads nor writes, ends with the tunnel.
func TestTunnelEndsAfterFIN(t *testing.T) {
	leaks(t)
	laptop, agent := tunnelPair(t)
	s := start(t, Config{DialTCP: dialOver(laptop)})
	app, far := openOverTunnel(t, agent)
	_ = far.CloseWrite()
	if _, err := app.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	_ = laptop.Close()
	until(t, "the connection has ended", func() bool { return s.Stats().TCPActive == 0 })
}
