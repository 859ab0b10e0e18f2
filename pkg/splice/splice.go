// Package splice joins two stream connections into one: bytes, half-closes
// and resets of either reach the other. It owns the copying and nothing else:
// dialing, accepting and deciding who may talk to whom are its callers'.
package splice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is a stream that can be half-closed: after CloseWrite the peer reads
// EOF and may go on writing.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// bufferSize is one tunnel frame: a larger read only waits in a queue.
const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// Stats counts the bytes each way.
type Stats struct{ AToB, BToA int64 }

// Splice copies a to b and b to a until both directions have ended, then
// closes both. EOF in one direction is passed on by CloseWrite while the
// other goes on. An error in either direction, or the end of ctx, resets both
// connections; the first such error is returned.
func Splice(ctx context.Context, a, b Conn) (stats Stats, err error) {
	ended := make(chan struct{})
	start(ctx, a, b,
		func(done func(int64, error)) { go run(a, b, done) },
		func(done func(int64, error)) { run(b, a, done) },
		func(s Stats, first error) {
			stats, err = s, first
			close(ended)
		})
	<-ended
	return stats, err
}

// Carrier is a connection that copies to and from others by itself, and needs
// no goroutine while there is nothing to copy: a flow of a tunnel.
type Carrier interface {
	Conn
	// CopyTo writes to w what arrives; done is called at the end.
	CopyTo(w io.Writer, done func(n int64, err error))
	// CopyFrom takes what try reads; see Polled.
	CopyFrom(try func(p []byte, ready func()) (int, error), done func(n int64, err error))
}

// Polled is a connection that can be read without waiting.
type Polled interface {
	Conn
	// TryRead reads what there is. When that is nothing, it returns 0 and no
	// error, and calls ready when there may be something or the connection
	// has ended; once, and not to be held up.
	TryRead(p []byte, ready func()) (int, error)
}

// Ender is a connection that knows of its end though nobody reads or writes it:
// a flow, which its peer resets or whose tunnel ends.
type Ender interface {
	// OnOver has over called then, on a goroutine of its own. err is
	// ECONNRESET when what arrived before can still be read.
	OnOver(over func(err error))
}

// overLimit is for the last bytes before a reset to be taken.
const overLimit = 5 * time.Second

// Join is Splice for a pair that can do without goroutines while it is idle:
// it returns at once, and calls done in the end, on any goroutine.
func Join(ctx context.Context, a Polled, b Carrier, done func(Stats, error)) {
	start(ctx, a, b,
		func(done func(int64, error)) { b.CopyFrom(a.TryRead, done) },
		func(done func(int64, error)) { b.CopyTo(a, done) },
		done)
}

// JoinPolled is Join for two connections that are polled both.
func JoinPolled(ctx context.Context, a, b Polled, done func(Stats, error)) {
	start(ctx, a, b,
		func(done func(int64, error)) { go move(b, a, 0, done) },
		func(done func(int64, error)) { go move(a, b, 0, done) },
		done)
}

// move copies from src to dst what there is, and then leaves it to ready to go on. n
// bytes have been copied before.
func move(dst, src Polled, n int64, done func(int64, error)) {
	m := newMover()
	for {
		size, err := m.from(src, func() { go move(dst, src, n, done) })
		switch {
		case errors.Is(err, io.EOF):
			done(n, nil)
			return
		case err != nil:
			done(n, err)
			return
		case size == 0:
			return
		}
		moved, err := m.to(dst)
		n += int64(moved)
		if err != nil {
			done(n, err)
			return
		}
	}
}

// start starts the directions a to b and b to a, and calls done when both have
// ended.
func start(ctx context.Context, a, b Conn, aToB, bToA func(done func(int64, error)), done func(Stats, error)) {
	j := &joint{a: side{Conn: a}, b: side{Conn: b}, done: done}
	j.left.Store(2)
	if ctx.Done() != nil {
		j.left.Add(1)
		j.unwatch = context.AfterFunc(ctx, func() {
			j.fail(context.Cause(ctx))
			j.end()
		})
	}
	for _, s := range []*side{&j.a, &j.b} {
		if e, ok := s.Conn.(Ender); ok {
			e.OnOver(func(err error) { j.over(s, err) })
		}
	}
	aToB(func(n int64, err error) { j.ended(&j.a, &j.b, &j.stats.AToB, n, err) })
	bToA(func(n int64, err error) { j.ended(&j.b, &j.a, &j.stats.BToA, n, err) })
}

// side is one of the two connections.
type side struct {
	Conn
	ended atomic.Bool           // the direction from it has
	over  atomic.Pointer[error] // why it is
}

// joint is a pair of connections being spliced.
type joint struct {
	a, b    side
	done    func(Stats, error)
	unwatch func() bool  // of the context; nil: that does not end
	left    atomic.Int32 // directions that go on, and one for the context
	once    sync.Once
	failed  atomic.Bool // before any is reset
	first   error
	stats   Stats
}

// over is told by a connection that nobody may be reading or writing. What it
// still has is copied, but not for ever.
func (j *joint) over(s *side, err error) {
	s.over.Store(&err)
	if s.ended.Load() || !errors.Is(err, syscall.ECONNRESET) {
		j.fail(err)
		return
	}
	time.AfterFunc(overLimit, func() { j.fail(err) })
}

// ended is the end of the direction from src to dst.
func (j *joint) ended(src, dst *side, count *int64, n int64, err error) {
	*count = n
	switch {
	case err != nil:
		err = fmt.Errorf("copy from %s to %s: %w", src.RemoteAddr(), dst.RemoteAddr(), err)
	case j.failed.Load():
		// This end may be our own doing: no FIN may precede dst's reset.
	default:
		if err = dst.CloseWrite(); err != nil {
			err = fmt.Errorf("half-close %s: %w", dst.RemoteAddr(), err)
		}
	}
	src.ended.Store(true)
	if over := src.over.Load(); err == nil && over != nil {
		err = *over
	}
	if err != nil {
		j.fail(err)
	}
	if left := j.end(); left == 1 && j.unwatch != nil && j.unwatch() {
		j.end()
	}
}

// fail resets both, the first time.
func (j *joint) fail(err error) {
	j.once.Do(func() {
		j.failed.Store(true)
		j.first = err
		_ = Reset(j.a.Conn)
		_ = Reset(j.b.Conn)
	})
}

// end is called by whatever left counts.
func (j *joint) end() (left int32) {
	if left = j.left.Add(-1); left == 0 {
		j.once.Do(func() {
			_ = j.a.Close()
			_ = j.b.Close()
		})
		j.done(j.stats, j.first)
	}
	return left
}

// Reset ends a connection abortively where it knows how (RST for TCP), and
// closes it otherwise.
func Reset(c net.Conn) error {
	switch c := c.(type) {
	case interface{ Reset() error }:
		return c.Reset()
	case interface{ SetLinger(sec int) error }:
		_ = c.SetLinger(0)
	}
	return c.Close()
}

// run copies src to dst until EOF. Connections that know how to copy
// themselves (the kernel between two sockets, a flow out of its own buffers)
// do so.
func run(src, dst Conn, done func(int64, error)) {
	if n, ok, err := inKernel(dst, src); ok {
		done(n, err)
		return
	}
	_, gives := src.(io.WriterTo)
	_, takes := dst.(io.ReaderFrom)
	if gives || takes {
		done(io.Copy(dst, src))
		return
	}
	buf := buffers.Get().(*[]byte)
	n, err := io.CopyBuffer(dst, src, *buf)
	buffers.Put(buf)
	done(n, err)
}
