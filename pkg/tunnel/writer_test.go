package tunnel

import (
	"bytes"
	"testing"
	"time"
)

// quietTunnel has no goroutines: a test calls its writer itself.
func quietTunnel(t *testing.T) *Tunnel {
	t.Helper()
	cfg, err := Config{Key: testKey}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	tun := newTunnel(cfg, true, tunnelID{}, "")
	l := tun.allLanes()[0]
	if _, err := l.w.begin(&tun.meter, &wire{l: l}, 0, 0); err != nil {
		t.Fatal(err)
	}
	return tun
}

// collect is the next write, which the peer confirms.
func collect(tun *Tunnel) []byte {
	w := &tun.allLanes()[0].w
	b, _ := w.collect(w.wire, &tun.meter, nil)
	w.acked(&tun.meter, w.out.end, time.Now())
	return b
}

// openFlow is a flow that has credit.
func openFlow(tun *Tunnel, id uint32) *Flow {
	f := newFlow(tun, Target{Network: "tcp"})
	f.id, f.state, f.sendLimit = id, stateOpen, windowLimit
	tun.flows[id] = f
	return f
}

// frames lists types and flows.
func frames(t *testing.T, b []byte) (list []header) {
	t.Helper()
	fr := newFrameReader(bytes.NewReader(b))
	fr.grow()
	for {
		h, _, err := fr.next()
		if err != nil {
			return list
		}
		h.length = 0
		list = append(list, h)
	}
}

// TestOpenedPrecedesData: both come while the writer is in the middle of a
// write.
func TestOpenedPrecedesData(t *testing.T) {
	tun := quietTunnel(t)
	a, b := openFlow(tun, 1), openFlow(tun, 3)
	_, _ = a.Write([]byte("a"))
	a.mu.Lock() // holds the writer in a's turn
	batch := make(chan []byte)
	go func() {
		batch <- collect(tun)
	}()
	waitFor(t, func() bool {
		a.lane.w.mu.Lock()
		defer a.lane.w.mu.Unlock()
		return a.sched.turn
	})
	b.lane.w.send(b, func(out []byte) []byte { return appendOpened(out, b.id, 1) }, 0)
	_, _ = b.Write([]byte("b"))
	a.mu.Unlock()
	got := frames(t, <-batch)
	want := []header{{typ: typeData, flow: 1}, {typ: typeOpened, flow: 3}, {typ: typeData, flow: 3}}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("sent %v", got)
	}
}

// TestBulkIsNotStarved: urgent flows never run out.
func TestBulkIsNotStarved(t *testing.T) {
	tun := quietTunnel(t)
	bulk := openFlow(tun, 1)
	bulk.sent = youngFlow
	_, _ = bulk.Write(make([]byte, sendQueue))
	for id := uint32(3); id < 1000; id += 2 {
		_, _ = openFlow(tun, id).Write([]byte("small"))
	}
	waited, bulkTurns := 0, 0
	for bulkTurns < sendQueue/maxChunk {
		for _, h := range frames(t, collect(tun)) {
			if h.flow == 1 {
				waited = 0
				bulkTurns++
			} else if waited++; waited > urgentTurns && bulkTurns < sendQueue/maxChunk {
				t.Fatalf("%d turns without bulk", waited)
			}
		}
	}
}

// TestFullQueueOfDatagramsDrops counts packets and bytes.
func TestFullQueueOfDatagramsDrops(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 60_000} {
		f := newFlow(quietTunnel(t), Target{Network: "udp"})
		f.id, f.state = 1, stateOpen
		for range 1000 {
			if _, err := f.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
		if n, held := len(f.packets.out.list), f.holds(); n > maxPackets || held > maxPacketBytes || n == 0 {
			t.Errorf("%d datagrams, %d bytes of datagrams of %d bytes", n, held, size)
		}
	}
}

func TestAdapt(t *testing.T) {
	tun := quietTunnel(t)
	w := &tun.allLanes()[0].w
	for range 10 {
		w.adapt(w.limit, 2*slowWrite)
	}
	if w.limit != maxChunk {
		t.Errorf("slow lane: %d", w.limit)
	}
	w.adapt(100, 2*slowWrite)
	for range 10 {
		w.adapt(100, 0)
	}
	if w.limit != writeFull {
		t.Errorf("fast lane: %d", w.limit)
	}
}
