package tunnel

// What one side sends for a flow goes on one lane at a time, and to another
// only when the peer has confirmed all of it: so it arrives in order, without
// anything being put in order. Small talk goes on the first lane that works,
// bulk on the one of the others that is least loaded.

// queueLocked asks for a turn.
func (f *Flow) queueLocked(urgent bool) {
	for !f.laneLocked(urgent).w.schedule(f, urgent) {
		f.moveLocked(f.t.allLanes()[0])
	}
}

// sendLocked queues a control frame about the flow.
func (f *Flow) sendLocked(frame func([]byte) []byte) {
	for !f.laneLocked(true).w.send(f, frame) {
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

// arrive lets flows go on that a lane has let go.
func (l *flowList) arrive() {
	for f := l.pop(); f != nil; f = l.pop() {
		f.arrive()
	}
}

// arrive goes on on the lane that suits the flow best.
func (f *Flow) arrive() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queueLocked(false)
}

// choose says which lane suits a flow that is on one now. Bulk stays where it
// is if that is as good as any.
func (t *Tunnel) choose(now *lane, f *Flow, urgent bool) *lane {
	lanes := t.allLanes()
	if len(lanes) == 1 {
		return now
	}
	var first, best *lane
	for i := range lanes {
		l := lanes[i]
		switch {
		case !l.usable():
		case first == nil:
			first = l
			if urgent {
				return l
			}
		case l == now:
			return l
		case best == nil || l.w.flight.Load() < best.w.flight.Load() ||
			l.w.flight.Load() == best.w.flight.Load() && (int(f.id)/2+i)%2 == 0:
			best = l
		}
	}
	switch {
	case best != nil:
		return best
	case first != nil:
		return first
	default:
		return now
	}
}
