package netstack

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// memory is a flow that produces and swallows bytes without any cost of its
// own, so that the figures are those of the device and the stack.
type memory struct {
	left int64 // to produce; then EOF
	once sync.Once
	done chan struct{}
}

func newMemory(left int64) *memory { return &memory{left: left, done: make(chan struct{})} }

func (m *memory) end() error {
	m.once.Do(func() { close(m.done) })
	return nil
}

func (m *memory) Read(b []byte) (int, error) {
	if m.left <= 0 {
		<-m.done
		return 0, io.EOF
	}
	n := min(int64(len(b)), m.left)
	m.left -= n
	return int(n), nil
}

func (m *memory) CopyTo(w io.Writer, done func(int64, error)) {
	go func() { done(io.CopyBuffer(w, struct{ io.Reader }{m}, make([]byte, 128<<10))) }()
}

func (m *memory) CopyFrom(try func([]byte, func()) (int, error), done func(int64, error)) {
	go func() {
		buf := make([]byte, 128<<10)
		ready := make(chan struct{}, 1)
		for sum := int64(0); ; {
			n, err := try(buf, func() { ready <- struct{}{} })
			sum += int64(n)
			switch {
			case errors.Is(err, io.EOF):
				done(sum, nil)
				return
			case err != nil:
				done(sum, err)
				return
			case n == 0:
				<-ready
			}
		}
	}()
}

func (m *memory) Write(b []byte) (int, error)      { return len(b), nil }
func (m *memory) CloseWrite() error                { return m.end() }
func (m *memory) Close() error                     { return m.end() }
func (m *memory) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (m *memory) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkDown is from a flow to an application, in chunks of 1 MiB.
func BenchmarkDown(b *testing.B) {
	const chunk = 1 << 20
	start(b, Config{DialTCP: func(context.Context, netip.AddrPort) (splice.Carrier, error) {
		return newMemory(int64(b.N) * chunk), nil
	}})
	c, err := net.Dial("tcp", "10.96.0.1:80")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	buf := make([]byte, chunk)
	b.SetBytes(chunk)
	b.ResetTimer()
	for range b.N {
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUp is from an application to a flow, in chunks of 1 MiB.
func BenchmarkUp(b *testing.B) {
	const chunk = 1 << 20
	start(b, Config{DialTCP: func(context.Context, netip.AddrPort) (splice.Carrier, error) {
		return newMemory(0), nil
	}})
	c, err := net.Dial("tcp", "10.96.0.1:80")
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, chunk)
	b.SetBytes(chunk)
	b.ResetTimer()
	for range b.N {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	// The end is when everything has passed through.
	_ = c.(*net.TCPConn).CloseWrite()
	if _, err := c.Read(buf); !errors.Is(err, io.EOF) {
		b.Fatal(err)
	}
	b.StopTimer()
	_ = c.Close()
}

// BenchmarkConnect is one connection, one byte there and back, close.
func BenchmarkConnect(b *testing.B) {
	start(b, Config{DialTCP: func(context.Context, netip.AddrPort) (splice.Carrier, error) {
		return newMemory(1), nil
	}})
	b.ResetTimer()
	for range b.N {
		c, err := net.Dial("tcp", "10.96.0.1:80")
		if err != nil {
			b.Fatal(err)
		}
		_, _ = c.Write([]byte{1})
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}
