package tunnel

import (
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// far lets the office be delay away, each way.
func (o *office) far(delay time.Duration) *office {
	o.link = func(near, end net.Conn) (net.Conn, net.Conn) {
		c, s := net.Pipe()
		o.wg.Go(func() { delayed(s, end, delay) })
		o.wg.Go(func() { delayed(end, s, delay) })
		return near, c
	}
	return o
}

// TestLanesComeAndGo: however often there were more lanes, both ends have one
// in the end.
func TestLanesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := NewLaneLimit(4)
		a, b := newOffice(t).far(10 * time.Millisecond).connect(Config{MaxLanes: 4, Lanes: limit})
		for round := range 8 {
			a.moreLanes(4)
			time.Sleep(5 * time.Minute)
			if la, lb, free := len(a.allLanes()), len(b.allLanes()), limit.free.Load(); la != 1 || lb != 1 || free != 3 {
				t.Fatalf("round %d: laptop has %d lanes, agent %d, %d free", round, la, lb, free)
			}
		}
	})
}

// TestRetireSurvivesCuts: the connection is lost while a lane retires.
func TestRetireSurvivesCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t).far(10 * time.Millisecond)
		a, b := o.connect(Config{MaxLanes: 2})
		for wait := range 80 {
			a.moreLanes(2)
			last := a.allLanes()[1]
			time.Sleep(2 * time.Second)
			last.w.retiring.Store(true)
			time.Sleep(time.Duration(wait) * 20 * time.Millisecond)
			o.cut(false)
			time.Sleep(5 * time.Second)
			if la, lb := len(a.allLanes()), len(b.allLanes()); la != 1 || lb != 1 || a.Err() != nil {
				t.Fatalf("cut after %v: laptop has %d lanes, agent %d; %v", time.Duration(wait)*20*time.Millisecond, la, lb, a.Err())
			}
		}
	})
}

// sends is how long size bytes take from one end to the other.
func sends(t *testing.T, from, to *Flow, total int) time.Duration {
	t.Helper()
	begin := time.Now()
	go func() {
		piece := make([]byte, maxChunk)
		for left := total; left > 0; left -= len(piece) {
			_, _ = from.Write(piece[:min(len(piece), left)])
		}
		_ = from.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, to); int(n) != total || err != nil {
		t.Errorf("%d of %d bytes, %v", n, total, err)
	}
	return time.Since(begin)
}

// TestMovingIsQuick: a flow that turns out to be bulk goes to another lane
// within about a round trip.
func TestMovingIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const delay = 5 * time.Millisecond
		a, b := newOffice(t).far(delay).connect(Config{MinLanes: 2})
		time.Sleep(3 * time.Second)
		for i := range 20 {
			f, g := flowPair(t, b, a, "tcp")
			if took := sends(t, f, g, 200<<10); took > 10*delay {
				t.Errorf("200 KiB took %v", took)
			}
			_, _ = f.Close(), g.Close()
			time.Sleep(time.Second + time.Duration(i)*37*time.Millisecond)
		}
	})
}

// TestBulkBothWaysMoves: the credit that a flow gives does not keep what it
// sends from going to the lanes for bulk.
func TestBulkBothWaysMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := make(map[int]time.Duration)
		for _, lanes := range []int{1, 2} {
			a, b := newOffice(t).far(40 * time.Millisecond).connect(Config{MinLanes: lanes, MaxLanes: lanes})
			time.Sleep(3 * time.Second)
			f, g := flowPair(t, a, b, "tcp")
			begin := time.Now()
			var wg sync.WaitGroup
			wg.Go(func() { sends(t, f, g, 100<<20) })
			wg.Go(func() { sends(t, g, f, 100<<20) })
			wg.Wait()
			took[lanes] = time.Since(begin)
		}
		t.Logf("100 MiB each way: %v with one lane, %v with two", took[1], took[2])
		if took[2] > took[1]*3/2 {
			t.Errorf("%v with one lane, %v with two", took[1], took[2])
		}
	})
}

// TestManyMove: many flows turn out to be bulk at once, on lanes of both
// ends, and none stays behind.
func TestManyMove(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8)) // two seldom get into each other's way
	server, err := NewServer(Config{Key: testKey})
	if err != nil {
		t.Fatal(err)
	}
	made := make(chan *Tunnel, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	a, err := Dial(t.Context(), func(context.Context) (net.Conn, error) {
		c, s := tcpLane(t)
		wg.Go(func() {
			if tun, first, err := server.Handle(t.Context(), s); err == nil && first {
				made <- tun
			}
		})
		return c, nil
	}, Config{Key: testKey, MinLanes: 3, MaxLanes: 3})
	if err != nil {
		t.Fatal(err)
	}
	b := <-made
	defer func() { _, _ = a.Close(), b.Close() }()
	waitFor(t, func() bool { return a.Stats().Lanes == 3 })
	const pieces, piece = 150, 7 << 10
	for range 10 {
		var wg sync.WaitGroup
		for range 16 {
			f, g := flowPair(t, a, b, "tcp")
			wg.Go(func() {
				buf := make([]byte, piece)
				for range pieces {
					_, _ = f.Write(buf)
				}
				_ = f.CloseWrite()
			})
			wg.Go(func() {
				_ = g.SetReadDeadline(time.Now().Add(time.Minute))
				if n, err := io.Copy(io.Discard, g); n != pieces*piece || err != nil {
					t.Errorf("%d of %d bytes, %v", n, pieces*piece, err)
				}
				_, _ = f.Close(), g.Close()
			})
		}
		if wg.Wait(); t.Failed() {
			return
		}
	}
}

// TestChattyFlowLeaves: a flow that always has something unconfirmed on a
// lane does not keep the lane from retiring.
func TestChattyFlowLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newOffice(t).far(20 * time.Millisecond).connect(Config{MinLanes: 1, MaxLanes: 2})
		a.moreLanes(2)
		time.Sleep(time.Second)
		f, g := flowPair(t, a, b, "tcp")
		f.mu.Lock()
		f.moveLocked(a.allLanes()[1])
		f.send.append(&a.meter, []byte("chatter"))
		f.lane.w.schedule(f, true, 0)
		f.mu.Unlock()
		go func() { _, _ = io.Copy(io.Discard, g) }()
		a.allLanes()[1].w.retiring.Store(true)
		for range 400 {
			if _, err := f.Write([]byte("chatter")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		if n := len(a.allLanes()); n != 1 {
			t.Errorf("%d lanes", n)
		}
	})
}

// TestLittleInFlightWhenTight: windows of lanes do not add up to more than
// there is memory.
func TestLittleInFlightWhenTight(t *testing.T) {
	tun := quietTunnel(t)
	w := &tun.allLanes()[0].w
	w.pace.window = maxFlight
	f := openFlow(tun, 1)
	fill := func() {
		for range 2 * maxFlight / sendQueueTight {
			f.mu.Lock()
			f.send.append(&tun.meter, make([]byte, sendQueueTight))
			f.sendLimit += sendQueueTight
			f.scheduleLocked()
			f.mu.Unlock()
			w.mu.Lock()
			idle := w.idleLocked(w.wire)
			w.mu.Unlock()
			if idle {
				return
			}
			w.collect(w.wire, &tun.meter, nil)
		}
	}
	tun.meter.budget.held.Add(tun.meter.budget.limit)
	fill()
	if n := w.out.inFlight(); n < minFlight || n > minFlight+2*writeFull {
		t.Errorf("%d bytes in flight with no memory left", n)
	}
	tun.meter.budget.held.Add(-tun.meter.budget.limit)
	fill()
	if n := w.out.inFlight(); n < maxFlight {
		t.Errorf("%d bytes in flight with memory", n)
	}
}

// TestNextConnectionWaitsForFlush: what somebody is about to write to a
// connection in place of its writer is neither lost nor overtaken when the
// next connection comes first.
func TestNextConnectionWaitsForFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newOffice(t).far(20 * time.Millisecond).connect(Config{MaxLanes: 1})
		f, g := flowPair(t, a, b, "tcp")
		time.Sleep(1500 * time.Millisecond) // the writer has nothing to do
		f.mu.Lock()
		f.send.append(&a.meter, []byte("x"))
		x := f.scheduleLocked()
		f.mu.Unlock()
		if x == nil {
			t.Fatal("nothing to flush")
		}
		x.l.drop(x, errReplaced)
		time.Sleep(2 * time.Second)
		if x.l.up.Load() {
			t.Error("the lane has another connection before the write is over")
		}
		x.flush()
		got := make([]byte, 2)
		if n, err := g.Read(got); err != nil || string(got[:n]) != "x" {
			t.Errorf("%q, %v", got[:n], err)
		}
	})
}
