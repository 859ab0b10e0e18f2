package tunnel

import (
	"errors"
	"fmt"
	"time"
)

const ticksPerPing = 4

// heartbeat sends PING on every lane, ends connections after PingTimeout of
// silence, notes that the tunnel is lost when there has been silence on all
// lanes for as long, and ends it after ResumeTimeout. It counts ticks in which
// nothing arrived rather than reading the clock: when this process was
// stopped or asleep, the time away counts as one.
func (t *Tunnel) heartbeat() {
	every := t.cfg.PingInterval / ticksPerPing
	ticks := func(d time.Duration) int { return int((d + every - 1) / every) }
	limit, resume := ticks(t.cfg.PingTimeout), max(ticks(t.cfg.ResumeTimeout), ticks(t.cfg.PingTimeout))
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	quiet := 0
	for n := 0; ; n++ {
		if n%ticksPerPing == 0 {
			for _, l := range t.allLanes() {
				if l.up.Load() {
					l.w.sendPing()
				}
			}
			t.tick()
		}
		select {
		case <-t.done:
			return
		case <-ticker.C:
		}
		heard := false
		for _, l := range t.allLanes() {
			if l.w.isOverloaded() {
				t.fail(fmt.Errorf("%w: %w", ErrClosed, errOverloaded))
				return
			}
			heard = l.listen(limit) || heard
		}
		t.adaptLanes(every)
		if heard {
			quiet = 0
			t.found()
			continue
		}
		if quiet++; quiet == limit {
			t.lose()
		}
		if quiet >= resume {
			t.fail(fmt.Errorf("%w: %w for %v", ErrClosed, errDead, t.cfg.ResumeTimeout))
			return
		}
	}
}

// listen tells the peer what it was not told, looks whether anything has
// arrived since the last look, and drops a connection that has been silent
// for limit looks.
func (l *lane) listen(limit int) (heard bool) {
	x := l.current()
	if x == nil {
		return false
	}
	l.w.tell(l.received.Load())
	if now := x.fr.received.Load(); now != x.seen {
		x.seen, x.quiet = now, 0
		l.suspect.Store(false)
		return true
	}
	x.quiet++
	if x.quiet > ticksPerPing {
		l.suspect.Store(true)
	}
	if x.quiet >= limit {
		l.drop(x, fmt.Errorf("%w for %v", errDead, l.t.cfg.PingTimeout))
	}
	return false
}

// Lost says since when nothing has been heard of the peer for PingTimeout; the
// zero time and false while it is heard. The agent's flows were reset then,
// the laptop's wait for its return.
func (t *Tunnel) Lost() (since time.Time, lost bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lostSince, !t.lostSince.IsZero()
}

// Up reports whether at least one lane has a connection.
func (t *Tunnel) Up() bool {
	for _, l := range t.allLanes() {
		if l.up.Load() {
			return true
		}
	}
	return false
}

var errLost = errors.New("flow reset: the session is not reached")

// lose resets what the agent has opened: its clients are other people's
// programs, and have somebody else to ask.
func (t *Tunnel) lose() {
	t.mu.Lock()
	if t.err != nil {
		t.mu.Unlock()
		return
	}
	t.lostSince = time.Now()
	var flows []*Flow
	for id, f := range t.flows {
		if id%2 == 0 {
			flows = append(flows, f)
		}
	}
	t.mu.Unlock()
	t.cfg.Log.Debug("tunnel lost", "flows", len(flows))
	for _, f := range flows {
		f.abort(errLost)
	}
}

// found is called while the peer is heard.
func (t *Tunnel) found() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.lostSince.IsZero() {
		t.lostSince = time.Time{}
		t.cfg.Log.Debug("tunnel found again")
	}
}

// tick looks after the watched flows, once every PingInterval.
func (t *Tunnel) tick() {
	t.mu.Lock()
	if len(t.watched) == 0 {
		t.mu.Unlock()
		return
	}
	flows := make([]*Flow, 0, len(t.watched))
	for f := range t.watched {
		flows = append(flows, f)
	}
	t.mu.Unlock()
	now := time.Now()
	for _, f := range flows {
		f.tend(now)
	}
}
