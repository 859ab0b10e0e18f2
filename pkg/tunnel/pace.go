package tunnel

import "time"

// pace bounds what is in flight on a lane, so that it is kept busy and not
// much more: what stands in a queue on the way delays all that comes after,
// and has to be kept until it is confirmed. It aims at confirmations that take
// two round trips: one for the way, and one in a queue for when the way is
// faster for a moment. Until one has taken longer, it grows by four times in a
// round trip, as credit does, if a third of it was used: the first step of credit
// fills just under half of the first window. Guarded by writer.mu.
type pace struct {
	budget  *Budget
	window  int  // bytes
	ceiling int  // of window
	limited bool // it has held something up since the last sample
	found   bool // a sample took longer than aimed at: the way's rate is known

	mark   uint64 // the sample: confirmed when the peer has this much
	begun  time.Time
	most   int           // in flight since
	lowest time.Duration // of all samples since
	since  time.Time
}

func newPace(b *Budget) pace {
	ceiling := int(min(max(b.limit/4, minFlight), maxFlight))
	return pace{budget: b, window: min(firstFlight, ceiling), ceiling: ceiling}
}

// allowed is what may be in flight: little, when memory is what there is
// little of.
func (p *pace) allowed() int {
	if p.budget.tight() {
		return minFlight
	}
	return p.window
}

// restart is for a new connection, which may take another way.
func (p *pace) restart() { p.mark, p.lowest, p.since = 0, 0, time.Time{} }

// sent begins a sample if none is under way, and so much is in flight that it
// will be confirmed without delay.
func (p *pace) sent(end uint64, flight int, now time.Time) {
	p.most = max(p.most, flight)
	if p.mark == 0 && flight >= ackEvery {
		p.mark, p.begun, p.most = end, now, flight
	}
}

// acked ends the sample if it is confirmed.
func (p *pace) acked(upTo uint64, now time.Time) {
	if p.mark == 0 || upTo < p.mark {
		return
	}
	took := max(now.Sub(p.begun), 1)
	if p.lowest == 0 || took < p.lowest {
		p.lowest = took
	}
	if p.since.IsZero() {
		p.since = now
	}
	if now.Sub(p.since) > paceAge {
		// The way may have become longer. What is in flight drains, so that it
		// is the way that the next sample finds, and not our own queue.
		p.window = max(p.window/4, minFlight)
		p.lowest, p.since, p.mark, p.limited = 0, now, 0, false
		return
	}
	aim := 2*p.lowest + paceSlack
	p.found = p.found || took > aim
	switch {
	case !p.found && 3*p.most >= p.window:
		p.window = min(4*p.window, p.ceiling)
	case p.limited || took > aim:
		next := float64(p.window) * min(max(float64(aim)/float64(took), 0.5), 4)
		p.window = min(max(int(next), minFlight), p.ceiling)
	}
	p.mark, p.limited = 0, false
}

// paceSlack is for what a busy machine adds to a round trip. It is generous,
// as a queue also makes whoever is on the way wake up less often, for more at
// a time: a quarter of the processor's time in a cluster on one machine.
const paceSlack = 80 * time.Millisecond

// paceAge is for how long the shortest sample counts.
const paceAge = 10 * time.Second
