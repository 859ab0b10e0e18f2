package tunnel

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slowConn takes bytes at a rate.
type slowConn struct {
	net.Conn
	rate int // bytes a second
}

func (c *slowConn) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(len(p)) * time.Second / time.Duration(c.rate))
	return c.Conn.Write(p)
}

// TestInteractiveBeforeBulk: while 20 flows fill a lane of 10 MB/s, with half
// a second of it queued, a small question and its answer wait for no more
// than the writes that are under way.
func TestInteractiveBeforeBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 10 << 20
		a, b := pair(t, func(tb testing.TB) (net.Conn, net.Conn) {
			c, s := net.Pipe()
			return &slowConn{c, rate}, &slowConn{s, rate}
		}, Config{}, Config{})
		counts := make([]int, 20)
		for i := range counts {
			f, g := flowPair(t, a, b, "tcp")
			go func() {
				buf := make([]byte, 64<<10)
				for {
					if _, err := f.Write(buf); err != nil {
						return
					}
				}
			}()
			go func() {
				buf := make([]byte, 64<<10)
				for {
					n, err := g.Read(buf)
					if err != nil {
						return
					}
					counts[i] += n
				}
			}()
		}
		f, g := flowPair(t, a, b, "tcp")
		go func() { _, _ = io.Copy(g, g) }()
		time.Sleep(2 * time.Second)
		oneWrite := time.Duration(2*maxChunk) * time.Second / rate
		var worst time.Duration
		buf := make([]byte, 100)
		for range 200 {
			start := time.Now()
			_, _ = f.Write(buf)
			if _, err := io.ReadFull(f, buf); err != nil {
				t.Fatal(err)
			}
			worst = max(worst, time.Since(start))
			time.Sleep(3 * time.Millisecond)
		}
		t.Logf("worst answer after %v; two frames take %v", worst, oneWrite)
		if worst > 2*oneWrite+5*time.Millisecond {
			t.Errorf("answer after %v", worst)
		}
		// Close ends the goroutines; only then may counts be read.
		_, _ = a.Close(), b.Close()
		synctest.Wait()
		if low, high := slices.Min(counts), slices.Max(counts); high > low*5/4 {
			t.Errorf("bulk flows got from %d to %d bytes", low, high)
		}
	})
}

// TestCreditGrows: with a round trip of 100 ms, a flow gets far beyond what
// its first credit allows, and gives the credit back.
func TestCreditGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const delay = 50 * time.Millisecond
		a, b := pair(t, longLane(delay), Config{}, Config{})
		f, g := flowPair(t, a, b, "tcp")
		const size = 100 << 20
		start := time.Now()
		go func() {
			_, _ = f.Write(make([]byte, size))
			_ = f.CloseWrite()
		}()
		if n, err := io.Copy(io.Discard, g); n != size || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		took := time.Since(start)
		t.Logf("100 MiB took %v; with the first credit alone they would take %v", took, size/startWindow*2*delay)
		if took > 4*time.Second {
			t.Errorf("100 MiB took %v", took)
		}
		if grown := b.cfg.Budget.grown.Load(); grown != 0 {
			t.Errorf("%d bytes of credit not given back after FIN", grown)
		}
	})
}

// TestFullSpeedInThreeRoundTrips: from the fourth on, a flow has in flight what
// one may have.
func TestFullSpeedInThreeRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const trip = 150 * time.Millisecond
		a, b := pair(t, longLane(trip/2), Config{}, Config{})
		f, g := flowPair(t, a, b, "tcp")
		arrived := &arrivals{trip: trip, begun: time.Now()}
		done := make(chan struct{})
		g.CopyTo(arrived, func(int64, error) { close(done) })
		_, _ = f.Write(make([]byte, 100<<20))
		_ = f.CloseWrite()
		<-done
		t.Logf("KiB in each round trip: %d", arrived.kib)
		if got := arrived.kib[3]; got < windowLimit>>10*15/16 {
			t.Errorf("%d KiB in the fourth round trip", got)
		}
		_ = g.CloseWrite()
	})
}

// arrivals counts what it is given.
type arrivals struct {
	trip  time.Duration
	begun time.Time
	kib   [100]int // in each round trip
}

func (a *arrivals) TryWrite(p []byte) (int, error) { return a.Write(p) }

func (a *arrivals) Write(p []byte) (int, error) {
	a.kib[time.Since(a.begun)/a.trip] += len(p) >> 10
	return len(p), nil
}

// longLane is a lane that takes as long each way, and any number of bytes.
func longLane(delay time.Duration) lanes {
	return func(tb testing.TB) (net.Conn, net.Conn) {
		c1, c2 := net.Pipe()
		s1, s2 := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { delayed(s1, c2, delay) })
		wg.Go(func() { delayed(c2, s1, delay) })
		tb.Cleanup(wg.Wait)
		return c1, s2
	}
}

// delayed passes bytes on after a time, as many as come.
func delayed(dst, src net.Conn, delay time.Duration) {
	type piece struct {
		b   []byte
		due time.Time
	}
	pieces := make(chan piece, 1<<16)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer func() { _ = dst.Close() }()
		for p := range pieces {
			time.Sleep(time.Until(p.due))
			if _, err := dst.Write(p.b); err != nil {
				_ = src.Close()
			}
		}
	})
	defer close(pieces)
	for {
		b := make([]byte, 128<<10)
		n, err := src.Read(b)
		if err != nil {
			return
		}
		pieces <- piece{b[:n], time.Now().Add(delay)}
	}
}

// TestStalledFlowDelaysNoOther: on several lanes full of flows that nobody
// reads, a question and a download take no longer than without them, but for
// one frame that may be on its way.
func TestStalledFlowDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			rate  = 10 << 20
			lanes = 3
			frame = maxChunk * time.Second / rate
		)
		o := newOffice(t)
		o.link = func(c, s net.Conn) (net.Conn, net.Conn) { return &slowConn{c, rate}, &slowConn{s, rate} }
		a, b := o.connect(Config{Lanes: NewLaneLimit(lanes), MinLanes: lanes})
		waitFor(t, func() bool { return a.Stats().Lanes == lanes })
		f, g := flowPair(t, a, b, "tcp")
		go func() { _, _ = io.Copy(g, g) }()
		down, up := flowPair(t, a, b, "tcp")
		ask := func() time.Duration {
			start := time.Now()
			buf := make([]byte, 100)
			_, _ = f.Write(buf)
			if _, err := io.ReadFull(f, buf); err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		}
		download := func() time.Duration {
			start := time.Now()
			const size = 4 << 20
			go func() { _, _ = up.Write(make([]byte, size)) }()
			if _, err := io.CopyN(io.Discard, down, size); err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		}
		download() // grows what the flow may have in flight
		question, transfer := ask(), download()

		const stalled = 30
		var flows []*Flow
		for range stalled {
			f, g := flowPair(t, a, b, "tcp")
			flows = append(flows, f)
			for _, f := range []*Flow{f, g} {
				go func() { _, _ = f.Write(make([]byte, 4<<20)) }()
			}
		}
		time.Sleep(10 * time.Second) // of the bubble's time: until the lanes have carried all that has credit
		used := map[*lane]bool{}     // all but the first, which is kept free of bulk
		for _, f := range flows {
			f.mu.Lock()
			used[f.lane] = true
			f.mu.Unlock()
		}
		if held := b.cfg.Budget.Held(); len(used) != lanes-1 || held < stalled*startWindow/2 {
			t.Fatalf("only %d bytes wait to be read, on %d lanes", held, len(used))
		}
		var worstQuestion, worstTransfer time.Duration
		for range 20 {
			worstQuestion, worstTransfer = max(worstQuestion, ask()), max(worstTransfer, download())
		}
		t.Logf("question %v, before %v; transfer %v, before %v; a frame takes %v",
			worstQuestion, question, worstTransfer, transfer, frame)
		if worstQuestion > question+frame || worstTransfer > transfer+frame {
			t.Errorf("question after %v instead of %v, transfer after %v instead of %v",
				worstQuestion, question, worstTransfer, transfer)
		}
		_, _ = a.Close(), b.Close()
		synctest.Wait()
	})
}
