package tunnel

import (
	"testing"
	"time"
)

// TestPace simulates a lane in bulk on a clock of its own: a window's worth is
// sent, and confirmed after a round trip, or when the way has carried it.
func TestPace(t *testing.T) {
	const mb = 1 << 20
	p := newPace(NewBudget(256 * mb))
	now, end := time.Unix(0, 0), uint64(0)
	run := func(length, rtt time.Duration, perSecond int) {
		for until := now.Add(length); now.Before(until); {
			n := p.allowed()
			end += uint64(n)
			p.limited = true
			p.sent(end, n, now)
			now = now.Add(max(rtt, time.Duration(n)*time.Second/time.Duration(perSecond)))
			p.acked(end, now)
		}
	}
	run(time.Second, time.Millisecond, 1000*mb)
	if p.window != maxFlight {
		t.Errorf("%d bytes in flight on a fast way of 1 ms, not %d", p.window, maxFlight)
	}
	run(20*time.Second, time.Millisecond, 10*mb)
	if p.window > 3*mb {
		t.Errorf("%d bytes in flight on a slow way of 1 ms", p.window)
	}
	run(20*time.Second, 150*time.Millisecond, 1000*mb)
	if p.window < maxFlight/4 {
		t.Errorf("%d bytes in flight on a fast way of 150 ms", p.window)
	}
}
