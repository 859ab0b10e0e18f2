package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// TestResetPassesThrough: both ways, forwarded and intercepted.
func TestResetPassesThrough(t *testing.T) {
	l, err := net.Listen("tcp", hostPort(podIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	port := portOf(l.Addr())
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
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
		c, f := a.captured(t, tun)
		return ends{c, f}
	}
	opened := func(t *testing.T) ends {
		f, s := dialed(t, tun, l)
		return ends{f, s}
	}
	for name, connect := range map[string]func(*testing.T) ends{"forwarded": forwarded, "intercepted": intercepted, "dialed": opened} {
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
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
	tun := a.connect(t, "s")
	if _, err := startIntercept(t, tun, "i", port, "u"); err != nil {
		t.Fatal(err)
	}
	for name, connect := range map[string]func(*testing.T) (net.Conn, *tunnel.Flow){
		"captured": func(t *testing.T) (net.Conn, *tunnel.Flow) { return a.captured(t, tun) },
		"dialed": func(t *testing.T) (net.Conn, *tunnel.Flow) {
			f, c := dialed(t, tun, l)
			return c, f
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 30 {
				c, f := connect(t)
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
				f, server := dialed(t, tun, l)
				defer func() { _ = server.Close() }()
				use(f, server)
				end(tun, f)
				_ = tun.Close() // which waits for what it has carried
				waitFor(t, "the session has left", func() bool { return len(a.reg.live()) == 0 })
			})
		}
	}
}
