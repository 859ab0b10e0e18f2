// Package splice joins two stream connections into one: bytes, half-closes
// and resets of either reach the other. It owns the copying and nothing else:
// dialing, accepting and deciding who may talk to whom are its callers'.
package splice

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
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
func Splice(ctx context.Context, a, b Conn) (Stats, error) {
	var (
		once  sync.Once
		first error
		stats Stats
		wg    sync.WaitGroup
	)
	fail := func(err error) {
		once.Do(func() {
			first = err
			_ = Reset(a)
			_ = Reset(b)
		})
	}
	watch := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		fail(context.Cause(ctx))
		close(watch)
	})
	direction := func(dst, src Conn, n *int64) {
		var err error
		if *n, err = pipe(dst, src); err != nil {
			fail(err)
		}
	}
	wg.Go(func() { direction(b, a, &stats.AToB) })
	direction(a, b, &stats.BToA)
	wg.Wait()
	if !stop() {
		<-watch
	}
	once.Do(func() {
		_ = a.Close()
		_ = b.Close()
	})
	return stats, first
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

// pipe copies src to dst until EOF and passes the EOF on. Connections that
// know how to copy themselves (the kernel between two sockets, a flow out of
// its own buffers) do so.
func pipe(dst, src Conn) (n int64, err error) {
	_, gives := src.(io.WriterTo)
	_, takes := dst.(io.ReaderFrom)
	if gives || takes {
		n, err = io.Copy(dst, src)
	} else {
		buf := buffers.Get().(*[]byte)
		defer buffers.Put(buf)
		n, err = io.CopyBuffer(dst, src, *buf)
	}
	if err != nil {
		return n, fmt.Errorf("copy from %s to %s: %w", src.RemoteAddr(), dst.RemoteAddr(), err)
	}
	if err := dst.CloseWrite(); err != nil {
		return n, fmt.Errorf("half-close %s: %w", dst.RemoteAddr(), err)
	}
	return n, nil
}
