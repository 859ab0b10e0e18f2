package tunnel

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
)

// BenchmarkBulk is one direction over a loopback TCP lane; the bare lane is
// the ceiling.
func BenchmarkBulk(b *testing.B) {
	const size = 32 << 10
	copyAll := func(b *testing.B, dsts, srcs []net.Conn) {
		b.Helper()
		b.SetBytes(size)
		b.ResetTimer()
		var wg sync.WaitGroup
		per := b.N/len(dsts) + 1
		for i := range dsts {
			wg.Go(func() {
				buf := make([]byte, size)
				for range per {
					if _, err := dsts[i].Write(buf); err != nil {
						b.Error(err)
						return
					}
				}
			})
			wg.Go(func() {
				buf := make([]byte, size)
				if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(srcs[i], int64(per)*size), buf); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	b.Run("bare", func(b *testing.B) {
		c, s := tcpLane(b)
		defer func() { _, _ = c.Close(), s.Close() }()
		copyAll(b, []net.Conn{c}, []net.Conn{s})
	})
	for _, n := range []int{1, 4, 32} {
		b.Run(fmt.Sprintf("flows=%d", n), func(b *testing.B) {
			c, s := pair(b, tcpLane, Config{}, Config{})
			var dsts, srcs []net.Conn
			for range n {
				f, g := flowPair(b, c, s, "tcp")
				dsts, srcs = append(dsts, f), append(srcs, g)
			}
			copyAll(b, dsts, srcs)
			b.Logf("%+v", s.Stats())
		})
	}
}

// BenchmarkPingPong is the round trip of one byte.
func BenchmarkPingPong(b *testing.B) {
	echo := func(b *testing.B, c, s net.Conn) {
		b.Helper()
		go func() {
			buf := make([]byte, 64)
			for {
				n, err := s.Read(buf)
				if err != nil {
					return
				}
				if _, err := s.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
		buf := make([]byte, 1)
		b.ResetTimer()
		for b.Loop() {
			if _, err := c.Write(buf); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(c, buf); err != nil {
				b.Fatal(err)
			}
		}
		_ = c.Close()
	}
	b.Run("bare", func(b *testing.B) {
		c, s := tcpLane(b)
		defer func() { _ = s.Close() }()
		echo(b, c, s)
	})
	b.Run("flow", func(b *testing.B) {
		c, s := pair(b, tcpLane, Config{}, Config{})
		f, g := flowPair(b, c, s, "tcp")
		echo(b, f, g)
	})
}

// BenchmarkOpen is a flow's whole life: open, one byte each way, close.
func BenchmarkOpen(b *testing.B) {
	c, s := pair(b, tcpLane, Config{}, Config{})
	for b.Loop() {
		f, g := flowPair(b, c, s, "tcp")
		_, _ = f.Write([]byte{1})
		_ = f.CloseWrite()
		_, _ = io.Copy(io.Discard, g)
		_ = g.Close()
		_, _ = io.Copy(io.Discard, f)
		_ = f.Close()
	}
}
