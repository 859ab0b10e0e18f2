package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// frozenConn can be frozen: nothing passes any more, nothing fails, until it
// is closed.
type frozenConn struct {
	net.Conn
	once   sync.Once
	frozen chan struct{}
	closed chan struct{}
	end    sync.Once
}

func newFrozenConn(c net.Conn) *frozenConn {
	return &frozenConn{Conn: c, frozen: make(chan struct{}), closed: make(chan struct{})}
}

func (c *frozenConn) freeze() { c.once.Do(func() { close(c.frozen) }) }

func (c *frozenConn) wait() error {
	select {
	case <-c.frozen:
		<-c.closed
		return net.ErrClosed
	default:
		return nil
	}
}

func (c *frozenConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if e := c.wait(); e != nil {
		return 0, e
	}
	return n, err
}

func (c *frozenConn) Write(p []byte) (int, error) {
	if err := c.wait(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *frozenConn) Close() error {
	c.end.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func frozenPair(t *testing.T) (a, b *Tunnel, freeze func()) {
	var fc, fs *frozenConn
	a, b = pair(t, func(tb testing.TB) (net.Conn, net.Conn) {
		c, s := net.Pipe()
		fc, fs = newFrozenConn(c), newFrozenConn(s)
		return fc, fs
	}, Config{}, Config{ResumeTimeout: time.Minute})
	return a, b, func() { fc.freeze(); fs.freeze() }
}

// TestSilence: the laptop, which can dial no other connection, gives up when
// it has noticed; the agent's flows end when it has, the laptop's when it has
// waited for long enough.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, freeze := frozenPair(t)
		f, g := flowPair(t, a, b, "tcp")
		mine, _ := flowPair(t, b, a, "tcp")
		time.Sleep(time.Hour) // an idle tunnel lives
		if err := errors.Join(a.Err(), b.Err()); err != nil {
			t.Fatal(err)
		}
		freeze()
		start := time.Now()
		if _, err := f.Read(make([]byte, 1)); !errors.Is(err, ErrClosed) {
			t.Errorf("read: %v", err)
		}
		<-a.Done()
		soon := func(what string) {
			t.Helper()
			if took := time.Since(start); took < 3*time.Second || took > 4500*time.Millisecond {
				t.Errorf("%s after %v", what, took)
			}
		}
		soon("the laptop gives up")
		if _, err := mine.Read(make([]byte, 1)); !errors.Is(err, errLost) {
			t.Errorf("the agent's flow: %v", err)
		}
		soon("the agent's flow ends")
		if _, lost := b.Lost(); !lost || b.Up() {
			t.Error("the agent does not know that the laptop is lost")
		}
		if _, err := g.Read(make([]byte, 1)); !errors.Is(err, ErrClosed) {
			t.Errorf("the laptop's flow: %v", err)
		}
		<-b.Done()
		if took := time.Since(start); took < 59*time.Second || took > 61*time.Second || !errors.Is(b.Err(), errDead) {
			t.Errorf("the agent gives up after %v: %v", took, b.Err())
		}
		start = time.Now()
		_ = a.Close() // the lane takes no last word
		if took := time.Since(start); took > closeTimeout {
			t.Errorf("close took %v", took)
		}
	})
}

func TestCloseOfBlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, freeze := frozenPair(t)
		f, _ := flowPair(t, a, b, "tcp")
		freeze()
		go func() { _, _ = f.Write(make([]byte, 1<<20)) }()
		synctest.Wait()
		start := time.Now()
		_ = a.Close()
		if took := time.Since(start); took > closeTimeout {
			t.Errorf("close took %v", took)
		}
	})
}

func TestHandshakeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := net.Pipe()
		defer func() { _, _ = c.Close(), s.Close() }()
		go func() { _, _ = io.Copy(io.Discard, s) }()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		_, err := Dial(ctx, func(context.Context) (net.Conn, error) { return c, nil }, Config{Key: testKey})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		c, s = net.Pipe()
		defer func() { _, _ = c.Close(), s.Close() }()
		ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := accept(ctx, s, Config{Key: testKey}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("accept: %v", err)
		}
	})
}

// TestLinger: a closed flow whose peer never closes is reset in the end.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := frozenPair(t)
		f, g := flowPair(t, a, b, "tcp")
		_ = f.Close()
		if _, err := g.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("read: %v", err)
		}
		start := time.Now()
		if _, err := g.Read(make([]byte, 0)); err != nil {
			t.Errorf("empty read: %v", err)
		}
		for g.peerGone() == nil {
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took < lingerTime || took > lingerTime+5*time.Second {
			t.Errorf("reset after %v", took)
		}
		if n := a.Stats().Flows + b.Stats().Flows; n != 0 {
			t.Errorf("%d flows left", n)
		}
	})
}

func (f *Flow) peerGone() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func TestDeadlineWakesAndIsReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _ := frozenPair(t)
		f, g := flowPair(t, a, b, "tcp")
		_ = f.SetReadDeadline(time.Now().Add(time.Second))
		go func() {
			time.Sleep(500 * time.Millisecond)
			_ = f.SetReadDeadline(time.Now().Add(10 * time.Second))
		}()
		start := time.Now()
		_, err := f.Read(make([]byte, 1))
		if took := time.Since(start); took != 10500*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
		_ = f.SetReadDeadline(time.Time{})
		_, _ = g.Write([]byte("x"))
		if n, err := f.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("after the deadline was lifted: %d, %v", n, err)
		}
	})
}
