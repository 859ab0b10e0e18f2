package tunnel

import (
	"slices"
	"sync/atomic"
	"time"
)

// LaneLimit bounds the lanes of several tunnels together. Safe for concurrent
// use; nil is no limit.
type LaneLimit struct {
	free atomic.Int64
}

// NewLaneLimit allows n lanes. The first lane of a tunnel is always allowed,
// and counts.
func NewLaneLimit(n int) *LaneLimit {
	l := &LaneLimit{}
	l.free.Store(int64(n))
	return l
}

func (l *LaneLimit) take(always bool) bool {
	if l == nil {
		return true
	}
	if l.free.Add(-1) >= 0 || always {
		return true
	}
	l.free.Add(1)
	return false
}

func (l *LaneLimit) give() {
	if l != nil {
		l.free.Add(1)
	}
}

const (
	// busyTicks is for how many looks in a row lanes have to be busy before
	// there are more.
	busyTicks = 2
	// idleLanes is how long none is, before there is one less.
	idleLanes = 30 * time.Second
)

// adaption is what the laptop has seen of how busy its lanes are.
type adaption struct {
	busy int           // looks in a row at which all were
	idle time.Duration // since one was
}

// adaptLanes is called every so often. Both ends look how busy they are, the
// laptop draws the conclusion.
func (t *Tunnel) adaptLanes(every time.Duration) {
	lanes := t.allLanes()
	any, all := false, true
	for i, l := range lanes {
		l.busy.Store(l.w.backlogged())
		busy := l.busy.Load() || l.peerBusy.Load()
		any = any || busy
		if i > 0 || len(lanes) == 1 { // the first is kept for small talk
			all = all && busy
		}
		if l.w.retiring.Load() {
			l.w.retire()
		}
		if !t.client && l.peerRetired.Load() && l.w.hasRetired() {
			t.endLane(l)
		}
	}
	if !t.client {
		return
	}
	a := &t.adapt
	if a.busy++; !all {
		a.busy = 0
	}
	if a.busy >= busyTicks {
		a.busy = 0
		t.moreLanes(min(2*len(lanes), t.cfg.MaxLanes))
	}
	if a.idle += every; any {
		a.idle = 0
	}
	if a.idle >= idleLanes && len(lanes) > t.cfg.MinLanes {
		a.idle = 0
		if last := lanes[len(lanes)-1]; last.up.Load() {
			last.w.retiring.Store(true)
		}
	}
}

// endLane forgets a lane on which both ends have said their last. It is the
// agent that knows first, when its RETIRE, which follows the laptop's, is
// confirmed; the laptop learns it from the agent, now or when it comes again.
func (t *Tunnel) endLane(l *lane) {
	t.mu.Lock()
	lanes := slices.DeleteFunc(slices.Clone(t.allLanes()), func(other *lane) bool { return other == l })
	t.lanes.Store(&lanes)
	var lastWord []byte
	if !t.client {
		t.retiredLanes[l.number] = struct{}{}
		lastWord = appendGoaway(goawayRetired, errRetired.Error())
	}
	t.mu.Unlock()
	l.over.Store(true)
	l.stop(lastWord)
}

// onRetired is the agent's word that the lane is over.
func (l *lane) onRetired() error {
	if !l.t.client || !l.peerRetired.Load() || !l.w.isClosed() {
		return malformed("GOAWAY %d on lane %d, which has not retired", goawayRetired, l.number)
	}
	l.t.endLane(l)
	return nil
}

// onRetire is the peer's last word on a lane: we say ours as soon as we can.
func (l *lane) onRetire() error {
	if l.number == 0 {
		return malformed("RETIRE of lane 0")
	}
	l.peerRetired.Store(true)
	l.w.retiring.Store(true)
	return nil
}

// backlogged reports whether there is more to send than goes on the lane.
func (w *writer) backlogged() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bulk.head != nil
}

// retire closes the lane to what is sent, with RETIRE as its last frame, if
// the peer has everything else.
func (w *writer) retire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.control) > 0 || w.urgent.head != nil || w.bulk.head != nil || w.leaving.head != nil || w.out.inFlight() > 0 || w.turning {
		return
	}
	w.closed = true
	w.control = appendHeader(w.control, typeRetire, 0, 0, 0)
	w.wakeLocked()
}

// hasRetired reports whether the peer has our RETIRE.
func (w *writer) hasRetired() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed && len(w.control) == 0 && w.out.inFlight() == 0
}

func (w *writer) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}
