//go:build linux

package netsim_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/test/netsim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wire is one end of a connection without a kernel, so that a simulated clock
// sees all that waits. A Write returns when the other end has read.
type wire struct {
	r *io.PipeReader
	w *io.PipeWriter
}

func wires() (a, b *wire) {
	ar, bw := io.Pipe()
	br, aw := io.Pipe()
	return &wire{ar, aw}, &wire{br, bw}
}

func (c *wire) Read(p []byte) (int, error)  { return c.r.Read(p) }
func (c *wire) Write(p []byte) (int, error) { return c.w.Write(p) }
func (c *wire) CloseWrite() error           { return c.w.Close() }

func (c *wire) Close() error {
	_ = c.w.Close()
	return c.r.Close()
}

func (c *wire) Reset() error {
	_ = c.w.CloseWithError(syscall.ECONNRESET)
	return c.r.CloseWithError(syscall.ECONNRESET)
}

func (c *wire) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *wire) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *wire) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (c *wire) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (c *wire) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// wireListener accepts what is sent to it.
type wireListener struct {
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func (l *wireListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

func (l *wireListener) Close() error {
	l.once.Do(func() { close(l.ended) })
	return nil
}

func (l *wireListener) Addr() net.Addr { return &net.TCPAddr{} }

// sim is a relay on a simulated clock.
type sim struct {
	*netsim.Relay
	t       *testing.T
	clients *wireListener
	servers chan *wire // what was dialed
	begin   time.Time
}

func simulate(t *testing.T, link netsim.Link, f func(*testing.T, *sim)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &sim{
			t: t, clients: &wireListener{conns: make(chan net.Conn), ended: make(chan struct{})},
			servers: make(chan *wire, 16), begin: time.Now(),
		}
		s.Relay = netsim.New(s.clients, func(ctx context.Context) (net.Conn, error) {
			near, far := wires()
			s.servers <- far
			return near, ctx.Err()
		}, link)
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		f(t, s)
	})
}

func (s *sim) connect() *wire {
	near, far := wires()
	s.clients.conns <- far
	return near
}

// now is the time since the begin.
func (s *sim) now() time.Duration { return time.Since(s.begin) }

// at fails unless it is that time.
func (s *sim) at(what string, want time.Duration) {
	s.t.Helper()
	if now := s.now(); now != want {
		s.t.Errorf("%s at %s, want %s", what, now, want)
	}
}

// tell sends a word and fails when that does not work.
func (s *sim) tell(c net.Conn, word string) {
	s.t.Helper()
	if _, err := io.WriteString(c, word); err != nil {
		s.t.Errorf("send %q: %v", word, err)
	}
}

// hear wants exactly this word to come next.
func (s *sim) hear(c net.Conn, word string) {
	s.t.Helper()
	got := make([]byte, len(word))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != word {
		s.t.Errorf("heard %q, %v, want %q", got[:n], err, word)
	}
}

// ends wants the next read to fail like this.
func (s *sim) ends(c net.Conn, want error) {
	s.t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
		s.t.Errorf("read %d bytes, %v, want %v", n, err, want)
	}
}

// silent starts a read that must not come to an end within an hour of the
// bubble's time; it returns what ends it.
func (s *sim) silent(c net.Conn) <-chan error {
	s.t.Helper()
	const long = time.Hour
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	select {
	case err := <-ended:
		s.t.Errorf("a read ends within %s: %v", long, err)
		ended <- err
	case <-time.After(long):
	}
	return ended
}

// tcp is a relay between real sockets, with a server that does something with
// each connection.
type tcp struct {
	*netsim.Relay
	t *testing.T
}

func overTCP(t *testing.T, link netsim.Link, serve func(*net.TCPConn)) tcp {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer func() { _ = c.Close() }()
				serve(c.(*net.TCPConn))
			})
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var dialer net.Dialer
	relay := netsim.New(listener, func(ctx context.Context) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", server.Addr().String())
	}, link)
	t.Cleanup(func() {
		if err := relay.Close(); err != nil {
			t.Error(err)
		}
		_ = server.Close()
		served.Wait()
	})
	return tcp{relay, t}
}

func (n tcp) connect() *net.TCPConn {
	n.t.Helper()
	c, err := net.Dial("tcp", n.Addr().String())
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // no test takes that long
	return c.(*net.TCPConn)
}

// echo sends a byte and wants it back.
func (n tcp) echo(c net.Conn) {
	n.t.Helper()
	got := make([]byte, 1)
	_, err := c.Write([]byte("x"))
	if err == nil {
		_, err = io.ReadFull(c, got)
	}
	if err != nil || got[0] != 'x' {
		n.t.Errorf("echo %q, %v", got, err)
	}
}

// isReset wants the next read to fail with a RST.
func (n tcp) isReset(c net.Conn) {
	n.t.Helper()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		n.t.Errorf("read: %v, want a reset", err)
	}
}

func echo(c *net.TCPConn) {
	_, _ = io.Copy(struct{ io.Writer }{c}, c)
	_ = c.CloseWrite()
}

var _ splice.Conn = (*wire)(nil)
