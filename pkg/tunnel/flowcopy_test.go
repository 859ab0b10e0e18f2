package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// relayed is a TCP connection whose bytes go through a flow: what is written
// to near is read from far, and the other way round.
func relayed(t *testing.T) (near, far *net.TCPConn, a, b *Tunnel) {
	t.Helper()
	a, b = pair(t, tcpLane, Config{}, Config{})
	f, g := flowPair(t, a, b, "tcp")
	n, inner1 := tcpLane(t)
	inner2, m := tcpLane(t)
	for _, e := range []struct {
		flow *Flow
		conn *net.TCPConn
	}{{f, inner1.(*net.TCPConn)}, {g, inner2.(*net.TCPConn)}} {
		ended := make(chan struct{}, 2)
		go func() {
			if _, err := e.flow.ReadFrom(e.conn); err == nil {
				_ = e.flow.CloseWrite()
			} else {
				_ = e.flow.Reset()
			}
			ended <- struct{}{}
		}()
		go func() {
			if _, err := e.flow.WriteTo(e.conn); err == nil {
				_ = e.conn.CloseWrite()
			} else {
				_ = e.conn.SetLinger(0)
				_ = e.conn.Close()
			}
			ended <- struct{}{}
		}()
		t.Cleanup(func() {
			_ = e.conn.Close()
			_ = e.flow.Close()
			<-ended
			<-ended
		})
	}
	t.Cleanup(func() { _, _ = n.Close(), m.Close() })
	return n.(*net.TCPConn), m.(*net.TCPConn), a, b
}

func TestRelay(t *testing.T) {
	near, far, a, b := relayed(t)
	sent := contents(1, 5_000_000)
	for _, ends := range [][2]*net.TCPConn{{near, far}, {far, near}} {
		go func() {
			_, _ = ends[0].Write(sent[:1])
			_, _ = ends[0].Write(sent[1:])
			_ = ends[0].CloseWrite()
		}()
		if got, err := io.ReadAll(ends[1]); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(sent), err)
		}
	}
	waitFor(t, func() bool { return a.Stats().Held == 0 && b.Stats().Held == 0 })
}

func TestRelayPassesReset(t *testing.T) {
	near, far, _, _ := relayed(t)
	_, _ = near.Write([]byte("x"))
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = near.SetLinger(0)
	_ = near.Close()
	_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v", err)
	}
}

// TestReadFromEnds: closing the connection, its deadline and a reset of the
// flow each end a ReadFrom that waits.
func TestReadFromEnds(t *testing.T) {
	a, b := pair(t, pipeLane, Config{}, Config{})
	for name, test := range map[string]struct {
		end  func(f, g *Flow, c net.Conn)
		want error
	}{
		"close":    {func(_, _ *Flow, c net.Conn) { _ = c.Close() }, net.ErrClosed},
		"deadline": {func(_, _ *Flow, c net.Conn) { _ = c.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			f, g := flowPair(t, a, b, "tcp")
			c, s := tcpLane(t)
			defer func() { _, _ = c.Close(), s.Close() }()
			result := make(chan error)
			go func() {
				_, err := f.ReadFrom(s)
				result <- err
			}()
			_, _ = c.Write([]byte("x"))
			if _, err := io.ReadFull(g, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			test.end(f, g, s)
			if err := <-result; !errors.Is(err, test.want) {
				t.Errorf("ended with %v", err)
			}
			_ = f.Reset()
		})
	}
}

// TestSlowWriterHoldsUpPeer: what WriteTo's writer has not taken keeps its
// credit.
func TestSlowWriterHoldsUpPeer(t *testing.T) {
	a, b := pair(t, pipeLane, Config{}, Config{})
	f, g := flowPair(t, a, b, "tcp")
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		_, _ = g.WriteTo(w)
		_ = w.Close()
		close(done)
	}()
	_ = f.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	n, err := f.Write(make([]byte, 4<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) || n > startWindow+sendQueue+sendQueue {
		t.Errorf("%d bytes taken, %v", n, err)
	}
	_ = f.CloseWrite()
	if got, err := io.Copy(io.Discard, r); got != int64(n) || err != nil {
		t.Errorf("%d of %d bytes, %v", got, n, err)
	}
	<-done
}
