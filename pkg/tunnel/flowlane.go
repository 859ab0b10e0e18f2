package tunnel

// What one side sends for a flow goes on one lane at a time, and to another
// only when the peer has confirmed all of it: so it arrives in order, without
// anything being put in order. Small talk goes on the first lane that works,
// bulk on the one of the others that is least loaded.

// queueLocked asks for a turn.
func (f *Flow) queueLocked(urgent bool) { f.queueReadyLocked(urgent, 0) }

// queueReadyLocked asks for a turn for a caller that flushes what it returns,
// as it has so many bytes ready.
func (f *Flow) queueReadyLocked(urgent bool, ready int) *wire {
	for {
		if x, ok := f.laneLocked(urgent).w.schedule(f, urgent, ready); ok {
			return x
		}
		f.moveLocked(f.t.allLanes()[0])
	}
}

// sendWindowLocked queues a WINDOW. What comes after may overtake it, so it
// does not hold the flow on its lane: one that moves bytes both ways would
// never get away.
func (f *Flow) sendWindowLocked(consumed, limit uint64) {
	frame := func(b []byte) []byte { return appendWindow(b, f.id, consumed, limit) }
	for {
		if _, ok := f.laneLocked(true).w.send(nil, frame, 0); ok {
			return
		}
		f.moveLocked(f.t.allLanes()[0])
	}
}

// sendLocked queues a control frame about the flow. The caller has to flush
// what it returns.
func (f *Flow) sendLocked(frame func([]byte) []byte) *wire {
	for {
		if x, ok := f.laneLocked(true).w.send(f, frame, 1); ok {
			return x
		}
		f.moveLocked(f.t.allLanes()[0])
	}
}

// laneLocked is the lane of the next frame.
func (f *Flow) laneLocked(urgent bool) *lane {
	if best := f.t.choose(f.lane, f, urgent); best != f.lane && f.lane.w.movable(f) {
		f.moveLocked(best)
	}
	return f.lane
}

func (f *Flow) moveLocked(to *lane) {
	f.lane = to
	f.sched.mark = 0
}

// arrive lets flows that a lane has let go go on on the lane that suits each
// best. The caller holds no lock.
func arrive(flows []*Flow) {
	for _, f := range flows {
		f.mu.Lock()
		f.queueLocked(false)
		f.mu.Unlock()
	}
}

// choose says which lane suits a flow that is on one now. Bulk stays where it
// is if another would not serve it clearly better.
func (t *Tunnel) choose(now *lane, f *Flow, urgent bool) *lane {
	lanes := t.allLanes()
	if len(lanes) == 1 {
		return now
	}
	var first, best *lane
	stays := false
	for i, l := range lanes {
		switch {
		case !l.usable():
		case first == nil:
			first = l
			if urgent {
				return l
			}
		case best == nil || l.w.lessLoaded(&best.w, (int(f.id)/2+i)%2 == 0):
			best = l
			stays = stays || l == now
		default:
			stays = stays || l == now
		}
	}
	switch {
	case best == nil && first == nil:
		return now
	case best == nil:
		return first
	case stays && now.w.load.Load() <= best.w.load.Load()+1:
		return now
	default:
		return best
	}
}
