package netstack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun/tuntest"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

func TestMain(m *testing.M) { tuntest.Main(m) }

// limit bounds every wait of these tests.
const limit = 15 * time.Second

var (
	testAddrs  = []netip.Prefix{netip.MustParsePrefix("198.18.0.1/30"), netip.MustParsePrefix("fd00:7e1e::1/126")}
	testLocal  = []netip.Addr{netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("fd00:7e1e::2")}
	testRoutes = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")}
	families   = map[string]string{"v4": "10.96.0.10", "v6": "fd00:96::10"}
	locals     = map[string]netip.Addr{"v4": testLocal[0], "v6": testLocal[1]}
)

// start runs a stack on a device of its own, in the tests' namespace.
func start(tb testing.TB, cfg Config) *Stack {
	tb.Helper()
	tuntest.NeedTUN(tb)
	dev, err := tun.Open(tun.MaxMTU)
	if err != nil {
		tb.Fatal(err)
	}
	if err := tun.NewRouter().Set(dev.Name(), tun.Network{Addrs: testAddrs, Routes: testRoutes}); err != nil {
		tb.Fatal(err)
	}
	cfg.MTU = dev.MTU()
	cfg.Addrs = testAddrs
	cfg.Local = testLocal
	if cfg.DialTCP == nil {
		cfg.DialTCP = func(context.Context, netip.AddrPort) (splice.Carrier, error) {
			return nil, errors.New("not for this test")
		}
	}
	if cfg.DialUDP == nil {
		cfg.DialUDP = func(context.Context, netip.AddrPort) (PacketConn, error) {
			return nil, errors.New("not for this test")
		}
	}
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := New(dev, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

// leaks checks, after all other cleanups, that no goroutine is left.
func leaks(t *testing.T) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
}

func dial(tb testing.TB, network, addr string) (net.Conn, error) {
	tb.Helper()
	c, err := net.DialTimeout(network, addr, limit)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c, nil
}

// loopbackPair returns the two ends of a real TCP connection.
func loopbackPair(tb testing.TB) (a, b *net.TCPConn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close(); _ = d.Close() })
	return c.(*net.TCPConn), d.(*net.TCPConn)
}

// serve makes a DialTCP that answers with flows whose other end is a TCP
// connection that handle handles.
func serve(tb testing.TB, handle func(*net.TCPConn)) func(context.Context, netip.AddrPort) (splice.Carrier, error) {
	carry := overTunnel(tb)
	var wg sync.WaitGroup
	tb.Cleanup(wg.Wait)
	return func(context.Context, netip.AddrPort) (splice.Carrier, error) {
		near, far := loopbackPair(tb)
		wg.Go(func() {
			defer func() { _ = far.Close() }()
			handle(far)
		})
		return carry(near)
	}
}

func TestTCPEcho(t *testing.T) {
	for name, host := range families {
		t.Run(name, func(t *testing.T) {
			leaks(t)
			var asked atomic.Pointer[netip.AddrPort]
			echo := serve(t, func(c *net.TCPConn) {
				_, _ = io.Copy(c, c)
				_ = c.CloseWrite()
			})
			s := start(t, Config{DialTCP: func(ctx context.Context, dst netip.AddrPort) (splice.Carrier, error) {
				asked.Store(&dst)
				return echo(ctx, dst)
			}})
			c, err := dial(t, "tcp", net.JoinHostPort(host, "80"))
			if err != nil {
				t.Fatal(err)
			}
			sent, got := sha256.New(), sha256.New()
			var wg sync.WaitGroup
			wg.Go(func() {
				rnd := rand.NewChaCha8([32]byte{1})
				_, _ = io.CopyN(io.MultiWriter(c, sent), rnd, 64<<20)
				_ = c.(*net.TCPConn).CloseWrite()
			})
			n, err := io.Copy(got, c)
			wg.Wait()
			if err != nil || n != 64<<20 || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
				t.Errorf("echo: %d bytes, err %v, equal %v", n, err, bytes.Equal(sent.Sum(nil), got.Sum(nil)))
			}
			if want := netip.MustParseAddrPort(net.JoinHostPort(host, "80")); *asked.Load() != want {
				t.Errorf("dialed %s, want %s", asked.Load(), want)
			}
			if st := s.Stats(); st.TCPOpened != 1 || st.RxBytes < 64<<20 {
				t.Errorf("stats: %+v", st)
			}
		})
	}
}

func TestTCPErrors(t *testing.T) {
	for _, tt := range []struct {
		dial error
		want error
	}{
		{fmt.Errorf("wrapped: %w", syscall.ECONNREFUSED), syscall.ECONNREFUSED},
		{fmt.Errorf("wrapped: %w", syscall.EHOSTUNREACH), syscall.EHOSTUNREACH},
		{fmt.Errorf("wrapped: %w", syscall.ENETUNREACH), syscall.ENETUNREACH},
		{&tunnel.RefusedError{Reason: tunnel.Denied}, syscall.ECONNREFUSED},
	} {
		for name, host := range families {
			t.Run(name+" "+tt.dial.Error(), func(t *testing.T) {
				leaks(t)
				start(t, Config{DialTCP: func(context.Context, netip.AddrPort) (splice.Carrier, error) { return nil, tt.dial }})
				begun := time.Now()
				_, err := dial(t, "tcp", net.JoinHostPort(host, "81"))
				if !errors.Is(err, tt.want) {
					t.Errorf("connect: %v, want %v", err, tt.want)
				}
				if took := time.Since(begun); took > 3*time.Second {
					t.Errorf("connect failed after %v, want at once", took)
				}
			})
		}
	}
}

// The SYN is held: connect returns only after the dial, however long it takes
// and however often the SYN is repeated meanwhile, and one dial is made.
func TestTCPHoldsSYN(t *testing.T) {
	leaks(t)
	var dials atomic.Int32
	release, dialing := make(chan struct{}), make(chan struct{}, 1)
	echo := serve(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	s := start(t, Config{DialTCP: func(ctx context.Context, dst netip.AddrPort) (splice.Carrier, error) {
		dials.Add(1)
		dialing <- struct{}{}
		<-release
		return echo(ctx, dst)
	}})
	connected := make(chan error, 1)
	go func() {
		c, err := net.DialTimeout("tcp", "10.96.0.1:80", limit)
		if err == nil {
			_ = c.Close()
		}
		connected <- err
	}()
	<-dialing
	// The kernel repeats its SYN after one second.
	before := s.Stats().RxPackets
	for deadline := time.Now().Add(limit); s.Stats().RxPackets < before+1 && time.Now().Before(deadline); {
		select {
		case err := <-connected:
			t.Fatalf("connected before the dial returned: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	close(release)
	if err := <-connected; err != nil {
		t.Error(err)
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d dials for one connection", n)
	}
}

// An error that is neither refusal nor unreachability answers nothing.
func TestTCPSilence(t *testing.T) {
	leaks(t)
	start(t, Config{DialTCP: func(context.Context, netip.AddrPort) (splice.Carrier, error) { return nil, syscall.ETIMEDOUT }})
	_, err := net.DialTimeout("tcp", "10.96.0.1:80", 300*time.Millisecond)
	if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("connect: %v, want a timeout", err)
	}
}

func TestTCPHalfClose(t *testing.T) {
	leaks(t)
	start(t, Config{DialTCP: serve(t, func(c *net.TCPConn) {
		all, err := io.ReadAll(c) // until the client's FIN
		if err != nil {
			t.Errorf("server: %v", err)
		}
		_, _ = fmt.Fprintf(c, "got %d bytes", len(all))
	})})
	c, err := dial(t, "tcp", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(c); err != nil || string(all) != "got 100000 bytes" {
		t.Errorf("after FIN: %q, %v", all, err)
	}
}

func TestTCPResetFromServer(t *testing.T) {
	leaks(t)
	start(t, Config{DialTCP: serve(t, func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0) // the deferred Close sends RST
	})})
	c, err := dial(t, "tcp", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
}

func TestTCPResetFromClient(t *testing.T) {
	leaks(t)
	got, arrived := make(chan error, 1), make(chan struct{})
	start(t, Config{DialTCP: serve(t, func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		close(arrived)
		_, err := c.Read(make([]byte, 1))
		got <- err
	})})
	c, err := dial(t, "tcp", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-arrived
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
	select {
	case err := <-got:
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("server's read: %v, want a reset", err)
		}
	case <-time.After(limit):
		t.Error("the reset did not arrive")
	}
}

// Close ends open connections with a reset, pending dials and everything else.
func TestCloseResets(t *testing.T) {
	leaks(t)
	hang := make(chan struct{})
	echo := serve(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	s := start(t, Config{DialTCP: func(ctx context.Context, dst netip.AddrPort) (splice.Carrier, error) {
		if dst.Port() == 99 {
			close(hang)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return echo(ctx, dst)
	}})
	c, err := dial(t, "tcp", "10.96.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if c, err := net.DialTimeout("tcp", "10.96.0.1:99", 200*time.Millisecond); err == nil {
			_ = c.Close()
		}
	}()
	<-hang
	begun := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("close took %v", took)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
	select {
	case <-s.Done():
	default:
		t.Error("not done after close")
	}
	if err := s.Err(); err != nil {
		t.Errorf("err after close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// failing is a device that dies.
type failing struct{ fail chan error }

func (f *failing) Read([]byte) (int, error)    { return 0, <-f.fail }
func (f *failing) Write(b []byte) (int, error) { return len(b), nil }
func (f *failing) Close() error                { return os.ErrClosed }

func TestDeviceDies(t *testing.T) {
	leaks(t)
	dev := &failing{fail: make(chan error, 1)}
	s, err := New(dev, Config{
		MTU:     1500,
		DialTCP: func(context.Context, netip.AddrPort) (splice.Carrier, error) { return nil, io.EOF },
		DialUDP: func(context.Context, netip.AddrPort) (PacketConn, error) { return nil, io.EOF },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("err while alive: %v", err)
	}
	dev.fail <- syscall.EBADF
	<-s.Done()
	if err := s.Err(); !errors.Is(err, syscall.EBADF) {
		t.Errorf("err: %v, want the device's", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	good := func() Config {
		return Config{
			MTU:     1500,
			DialTCP: func(context.Context, netip.AddrPort) (splice.Carrier, error) { return nil, io.EOF },
			DialUDP: func(context.Context, netip.AddrPort) (PacketConn, error) { return nil, io.EOF },
		}
	}
	for name, spoil := range map[string]func(*Config){
		"mtu too small": func(c *Config) { c.MTU = 1279 },
		"mtu too large": func(c *Config) { c.MTU = 65536 },
		"no tcp":        func(c *Config) { c.DialTCP = nil },
		"no udp":        func(c *Config) { c.DialUDP = nil },
		"limit":         func(c *Config) { c.UDPIdle = -1 },
		"local":         func(c *Config) { c.Local = []netip.Addr{{}} },
		"local group":   func(c *Config) { c.Local = []netip.Addr{netip.MustParseAddr("224.0.0.1")} },
		"local is kernel's": func(c *Config) {
			c.Addrs = testAddrs
			c.Local = []netip.Addr{testAddrs[0].Addr()}
		},
	} {
		c := good()
		spoil(&c)
		if _, err := New(&failing{}, c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
