package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func eachLane(t *testing.T, test func(t *testing.T, lane lanes)) {
	t.Run("pipe", func(t *testing.T) { test(t, pipeLane) })
	t.Run("tcp", func(t *testing.T) { test(t, tcpLane) })
}

func TestHalfClose(t *testing.T) {
	eachLane(t, func(t *testing.T, lane lanes) {
		c, s := pair(t, lane, Config{Session: "s1"}, Config{})
		if got := s.PeerSession(); got != "s1" {
			t.Errorf("peer session %q", got)
		}
		for _, ends := range [][2]*Tunnel{{c, s}, {s, c}} {
			f, g := flowPair(t, ends[0], ends[1], "tcp")
			sent := bytes.Repeat([]byte("half-closed "), 100_000)
			go func() {
				_, _ = f.Write(sent)
				_ = f.CloseWrite()
			}()
			got, err := io.ReadAll(g)
			if err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("got %d bytes of %d, %v", len(got), len(sent), err)
			}
			if _, err := f.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("write after CloseWrite: %v", err)
			}
			go func() {
				_, _ = g.Write(sent)
				_ = g.Close()
			}()
			if got, err = io.ReadAll(f); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("after FIN: got %d bytes of %d, %v", len(got), len(sent), err)
			}
			_ = f.Close()
		}
		waitFor(t, func() bool { return c.Stats().Flows == 0 && s.Stats().Flows == 0 })
		waitFor(t, func() bool { return c.Stats().Held == 0 && s.Stats().Held == 0 })
	})
}

func TestReset(t *testing.T) {
	eachLane(t, func(t *testing.T, lane lanes) {
		c, s := pair(t, lane, Config{}, Config{})
		f, g := flowPair(t, c, s, "tcp")
		_, _ = f.Write([]byte("last words"))
		_ = f.Reset()
		got, err := io.ReadAll(g)
		if string(got) != "last words" || !errors.Is(err, ErrReset) || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %q, %v", got, err)
		}
		if _, err := g.Write([]byte("x")); !errors.Is(err, ErrReset) {
			t.Errorf("write after reset: %v", err)
		}
		if _, err := f.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after own reset: %v", err)
		}
	})
}

func TestCloseWithUnreadBytesResets(t *testing.T) {
	c, s := pair(t, pipeLane, Config{}, Config{})
	f, g := flowPair(t, c, s, "tcp")
	_, _ = f.Write([]byte("unread"))
	waitFor(t, func() bool { return g.holds() > 0 })
	_ = g.Close()
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, ErrReset) {
		t.Errorf("read: %v", err)
	}

	f, g = flowPair(t, c, s, "tcp")
	_ = g.Close()
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read from closed: %v", err)
	}
	_, _ = f.Write([]byte("too late"))
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read from closed: %v", err)
	}
	waitFor(t, func() bool {
		_, err := f.Write([]byte("x"))
		return errors.Is(err, ErrReset)
	})
}

func TestRefused(t *testing.T) {
	c, s := pair(t, pipeLane, Config{}, Config{})
	for _, test := range []struct {
		reason Reason
		is     error
	}{
		{Refused, syscall.ECONNREFUSED},
		{Unreachable, syscall.EHOSTUNREACH},
		{TimedOut, syscall.ETIMEDOUT},
		{Conflict, syscall.ECONNREFUSED},
		{Failed, syscall.ECONNREFUSED},
	} {
		go func() {
			r, err := s.AcceptFlow(context.Background())
			if err == nil {
				err = r.Refuse(test.reason, "because")
			}
			if err != nil {
				t.Error(err)
			}
			if _, err := r.Accept(); err == nil {
				t.Error("accepted after refusing")
			}
		}()
		_, err := c.Open(context.Background(), Target{Network: "tcp", Address: "1.2.3.4:5"})
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Reason != test.reason || refused.Message != "because" {
			t.Errorf("%v: %v", test.reason, err)
		}
		if !errors.Is(err, test.is) {
			t.Errorf("%v is not %v", err, test.is)
		}
	}
}

func TestOpenGivenUp(t *testing.T) {
	c, s := pair(t, pipeLane, Config{}, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error)
	go func() {
		_, err := c.Open(ctx, Target{Network: "tcp", Address: "x"})
		failed <- err
	}()
	r, err := s.AcceptFlow(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
	<-r.Context().Done()
	if _, err := r.Accept(); !errors.Is(err, ErrReset) {
		t.Errorf("accept: %v", err)
	}
}

func TestTunnelDeathResetsFlows(t *testing.T) {
	eachLane(t, func(t *testing.T, lane lanes) {
		c, s := pair(t, lane, Config{}, Config{})
		f, g := flowPair(t, c, s, "tcp")
		go func() { _ = c.Close() }()
		for _, f := range []*Flow{f, g} {
			if _, err := f.Read(make([]byte, 1)); !errors.Is(err, ErrClosed) {
				t.Errorf("read: %v", err)
			}
		}
		<-s.Done()
		if err := s.Err(); !errors.Is(err, ErrClosed) {
			t.Errorf("reason: %v", err)
		}
		if _, err := s.Open(context.Background(), Target{Network: "tcp"}); !errors.Is(err, ErrClosed) {
			t.Errorf("open: %v", err)
		}
		if _, err := s.AcceptFlow(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("accept: %v", err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	c, s := pair(t, pipeLane, Config{}, Config{})
	f, _ := flowPair(t, c, s, "tcp")
	_ = f.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	big := make([]byte, windowLimit) // more than the credit
	_ = f.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	n, err := f.Write(big)
	if !errors.Is(err, os.ErrDeadlineExceeded) || n < sendQueue {
		t.Errorf("write: %d, %v", n, err)
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v is not a timeout", err)
	}
}

func TestDatagrams(t *testing.T) {
	eachLane(t, func(t *testing.T, lane lanes) {
		c, s := pair(t, lane, Config{}, Config{})
		f, g := flowPair(t, c, s, "udp")
		buf := make([]byte, 70_000)
		for _, size := range []int{0, 1, 1400, maxChunk, maxChunk + 1, maxDatagram} {
			p := bytes.Repeat([]byte{byte(size)}, size)
			if _, err := f.Write(p); err != nil {
				t.Fatal(err)
			}
			n, err := g.Read(buf)
			if err != nil || !bytes.Equal(buf[:n], p) {
				t.Fatalf("datagram of %d bytes: got %d, %v", size, n, err)
			}
		}
		if _, err := f.Write(make([]byte, maxDatagram+1)); err == nil {
			t.Error("datagram too long was taken")
		}
		for range 10_000 { // nobody reads: dropped, never waits
			if _, err := f.Write(buf[:1000]); err != nil {
				t.Fatal(err)
			}
		}
		_ = f.Close()
		for {
			if _, err := g.Read(buf); err != nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("read after close: %v", err)
				}
				break
			}
		}
		waitFor(t, func() bool { return c.Stats().Flows == 0 && s.Stats().Flows == 0 })
	})
}

// TestBothCloseAssociation: our FIN goes out while the peer's, whose flow has
// been looked up, is being handled.
func TestBothCloseAssociation(t *testing.T) {
	c, s := pair(t, tcpLane, Config{}, Config{})
	f, _ := flowPair(t, c, s, "udp")
	fin := header{typ: typeFin, flow: f.id, length: 8}
	found, err := c.lookup(fin)
	if err != nil || found != f {
		t.Fatal(found, err)
	}
	_ = f.Close()
	waitFor(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.gone
	})
	if err := found.onFin(0); err != nil {
		t.Error(err)
	}
	for range 1000 {
		f, g := flowPair(t, c, s, "udp")
		var wg sync.WaitGroup
		wg.Go(func() { _ = f.Close() })
		wg.Go(func() { _ = g.Close() })
		wg.Wait()
	}
	if err := errors.Join(c.Err(), s.Err()); err != nil {
		t.Error(err)
	}
}

// TestStalledFlowStallsNoOther leaves flows unread, full both ways.
func TestStalledFlowStallsNoOther(t *testing.T) {
	eachLane(t, func(t *testing.T, lane lanes) {
		c, s := pair(t, lane, Config{}, Config{})
		for range 10 {
			f, g := flowPair(t, c, s, "tcp")
			for _, f := range []*Flow{f, g} {
				_ = f.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
				_, _ = f.Write(make([]byte, 4<<20))
			}
		}
		f, g := flowPair(t, c, s, "tcp")
		sent := bytes.Repeat([]byte("x"), 8<<20)
		go func() {
			_, _ = f.Write(sent)
			_ = f.Close()
		}()
		if got, err := io.ReadAll(g); err != nil || len(got) != len(sent) {
			t.Errorf("got %d bytes of %d, %v", len(got), len(sent), err)
		}
	})
}

// waitFor polls for what another goroutine is about to do.
func waitFor(tb testing.TB, done func() bool) {
	tb.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			tb.Fatal("did not happen within 10 s")
		}
		time.Sleep(time.Millisecond)
	}
}
