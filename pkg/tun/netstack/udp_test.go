package netstack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// flow is a message connection in memory, as a tunnel's: it echoes.
type flow struct {
	net.Conn // nil: what is not overridden is not called
	queue    chan []byte
	fail     chan error
	once     sync.Once
	closed   chan struct{}
}

func newFlow() *flow {
	return &flow{queue: make(chan []byte, 64), fail: make(chan error, 1), closed: make(chan struct{})}
}

func (f *flow) ReadPacket() ([]byte, error) {
	select {
	case p := <-f.queue:
		return p, nil
	case err := <-f.fail:
		return nil, err
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

func (f *flow) Write(b []byte) (int, error) {
	select {
	case f.queue <- bytes.Clone(b):
	default: // dropped
	}
	return len(b), nil
}

func (f *flow) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

func TestUDPEcho(t *testing.T) {
	for name, host := range families {
		t.Run(name, func(t *testing.T) {
			leaks(t)
			var dials atomic.Int32
			start(t, Config{DialUDP: func(_ context.Context, dst netip.AddrPort) (PacketConn, error) {
				dials.Add(1)
				return newFlow(), nil
			}})
			c, err := dial(t, "udp", net.JoinHostPort(host, "53"))
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 70_000)
			for _, size := range []int{1, 512, 1500, 9000, 65_000, maxDatagram, 0, 7} {
				want := bytes.Repeat([]byte{byte(size)}, size)
				if _, err := c.Write(want); err != nil {
					t.Fatalf("write %d: %v", size, err)
				}
				n, err := c.Read(buf)
				if err != nil || !bytes.Equal(buf[:n], want) {
					t.Fatalf("echo of %d bytes: %d bytes, %v", size, n, err)
				}
			}
			if dials.Load() != 1 {
				t.Errorf("%d dials for one 4-tuple", dials.Load())
			}
		})
	}
}

func TestUDPErrors(t *testing.T) {
	for name, host := range families {
		t.Run(name+" dial", func(t *testing.T) {
			leaks(t)
			start(t, Config{DialUDP: func(context.Context, netip.AddrPort) (PacketConn, error) { return nil, syscall.ECONNREFUSED }})
			c, err := dial(t, "udp", net.JoinHostPort(host, "53"))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write([]byte("x"))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("read: %v, want refused", err)
			}
		})
		t.Run(name+" reset", func(t *testing.T) {
			leaks(t)
			f := newFlow()
			start(t, Config{DialUDP: func(context.Context, netip.AddrPort) (PacketConn, error) { return f, nil }})
			c, err := dial(t, "udp", net.JoinHostPort(host, "53"))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write([]byte("x"))
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			f.fail <- syscall.ECONNRESET
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("read: %v, want refused", err)
			}
		})
		t.Run(name+" end", func(t *testing.T) {
			leaks(t)
			f := newFlow()
			s := start(t, Config{DialUDP: func(context.Context, netip.AddrPort) (PacketConn, error) { return f, nil }})
			c, err := dial(t, "udp", net.JoinHostPort(host, "53"))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write([]byte("x"))
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			f.fail <- io.EOF
			until(t, "association ended", func() bool { return s.Stats().UDPActive == 0 })
			_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, syscall.ECONNREFUSED) {
				t.Error("an orderly end was answered with an error")
			}
		})
	}
}

func TestUDPIdle(t *testing.T) {
	leaks(t)
	var dials atomic.Int32
	s := start(t, Config{UDPIdle: 50 * time.Millisecond, DialUDP: func(context.Context, netip.AddrPort) (PacketConn, error) {
		dials.Add(1)
		return newFlow(), nil
	}})
	c, err := dial(t, "udp", "10.96.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, _ = c.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		until(t, "association ended", func() bool { return s.Stats().UDPActive == 0 })
	}
	if dials.Load() != 2 {
		t.Errorf("%d dials, want a second one after the first was idle", dials.Load())
	}
}

// An association in use outlives the idle limit, and ends after it.
func TestUDPInUse(t *testing.T) {
	leaks(t)
	const idle = 100 * time.Millisecond
	var dials atomic.Int32
	s := start(t, Config{UDPIdle: idle, DialUDP: func(context.Context, netip.AddrPort) (PacketConn, error) {
		dials.Add(1)
		return newFlow(), nil
	}})
	c, err := dial(t, "udp", "10.96.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); time.Since(begun) < 3*idle; {
		_, _ = c.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if dials.Load() != 1 {
		t.Errorf("%d dials for an association in use", dials.Load())
	}
	until(t, "association ended", func() bool { return s.Stats().UDPActive == 0 })
}

func TestUDPLimit(t *testing.T) {
	leaks(t)
	s := start(t, Config{MaxUDP: 2, DialUDP: func(context.Context, netip.AddrPort) (PacketConn, error) { return newFlow(), nil }})
	for range 3 {
		c, err := dial(t, "udp", "10.96.0.1:53")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte("x"))
	}
	until(t, "third dropped", func() bool { return s.Stats().Dropped == 1 && s.Stats().UDPOpened == 2 })
}

// until polls for what has no event of its own.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func TestLocal(t *testing.T) {
	for name, addr := range locals {
		t.Run(name, func(t *testing.T) {
			leaks(t)
			s := start(t, Config{
				DialTCP: func(context.Context, netip.AddrPort) (splice.Carrier, error) {
					t.Error("dialed for a local address")
					return nil, io.EOF
				},
				DialUDP: func(context.Context, netip.AddrPort) (PacketConn, error) {
					t.Error("dialed for a local address")
					return nil, io.EOF
				},
			})
			at := netip.AddrPortFrom(addr, 53)
			pc, err := s.ListenPacket(at)
			if err != nil {
				t.Fatal(err)
			}
			l, err := s.Listen(at)
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				buf := make([]byte, maxPacket)
				for {
					n, from, err := pc.ReadFrom(buf)
					if err != nil {
						if !errors.Is(err, net.ErrClosed) {
							t.Errorf("packet listener ended with %v", err)
						}
						return
					}
					_, _ = pc.WriteTo(buf[:n], from)
				}
			})
			wg.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						if !errors.Is(err, net.ErrClosed) {
							t.Errorf("listener ended with %v", err)
						}
						return
					}
					wg.Go(func() {
						_, _ = io.Copy(c, c)
						_ = c.Close()
					})
				}
			})
			for _, network := range []string{"udp", "tcp"} {
				c, err := dial(t, network, at.String())
				if err != nil {
					t.Fatal(err)
				}
				for _, want := range []string{"one", "two"} {
					_, _ = c.Write([]byte(want))
					buf := make([]byte, 3)
					if _, err := io.ReadFull(c, buf); err != nil || string(buf) != want {
						t.Fatalf("%s echo: %q, %v", network, buf, err)
					}
				}
				_ = c.Close()
				// A port without a listener refuses.
				closed := netip.AddrPortFrom(addr, 54)
				c, err = dial(t, network, closed.String())
				if network == "udp" {
					_, _ = c.Write([]byte("x"))
					_, err = c.Read(make([]byte, 1))
				}
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%s to a closed port: %v, want refused", network, err)
				}
			}
			_ = pc.Close()
			_ = l.Close()
			wg.Wait()
			if _, err := s.Listen(netip.MustParseAddrPort("10.96.0.1:53")); err == nil {
				t.Error("listening on an address that is not local")
			}
		})
	}
}

// Listeners that are not closed end with the stack.
func TestLocalEndsWithStack(t *testing.T) {
	leaks(t)
	s := start(t, Config{})
	at := netip.AddrPortFrom(testLocal[0], 53)
	pc, err := s.ListenPacket(at)
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _, _ = pc.ReadFrom(make([]byte, 1)) })
	wg.Go(func() { _, _ = l.Accept() })
	_ = s.Close()
	wg.Wait()
	if _, err := s.Listen(at); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen after close: %v", err)
	}
}
