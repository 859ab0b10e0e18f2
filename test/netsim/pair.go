package netsim

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// pair is one connection through the relay.
//
//	opening --dialed--> open --HalfOpen--> half
//	   |                 |                  |
//	   +--------end------+-------end--------+--> ended
//
// It has ended when ctx has; nothing that its goroutines wait for outlives that.
type pair struct {
	r      *Relay
	near   net.Conn
	since  time.Time
	ctx    context.Context
	cancel context.CancelFunc
	left   atomic.Bool // the laptop has sent its FIN into a half-open connection

	mu       sync.Mutex
	far      net.Conn // nil while opening
	half     bool     // the far side is gone, and near must not learn it
	shut     bool     // end has been called
	up, down flow
}

func newPair(r *Relay, near net.Conn) *pair {
	p := &pair{r: r, near: near, since: time.Now()}
	p.ctx, p.cancel = context.WithCancel(r.ctx)
	p.up = newFlow(p, &r.up)
	p.down = newFlow(p, &r.down)
	p.up.other, p.down.other = &p.down, &p.up
	return p
}

// serve returns when the pair has ended.
func (p *pair) serve() {
	var tasks sync.WaitGroup
	if p.open() {
		p.mu.Lock()
		half := p.far == nil
		p.mu.Unlock()
		tasks.Go(p.up.read)
		if !half {
			tasks.Go(p.up.write)
			tasks.Go(p.down.read)
			tasks.Go(p.down.write)
		}
	}
	<-p.ctx.Done()
	p.reset() // when it is the relay that has ended
	tasks.Wait()
	p.up.q.close()
	p.down.q.close()
}

// open does what happens until bytes may flow, and returns false when it does
// not come to that.
func (p *pair) open() bool {
	timer := newTimer()
	st := p.wayFree(timer, p.since)
	switch {
	case st == nil:
		return false
	case st.refuse:
		p.reset()
		return false
	}
	far, err := p.r.dial(p.ctx)
	p.mu.Lock()
	if err != nil && !p.half {
		p.mu.Unlock()
		if p.wayFree(timer, time.Now()) != nil {
			p.reset()
		}
		return false
	}
	defer p.mu.Unlock()
	p.up.src, p.down.dst = p.near, p.near
	if p.half || p.ctx.Err() != nil {
		if err == nil {
			_ = splice.Reset(far)
		}
		return p.ctx.Err() == nil
	}
	p.far, p.up.dst, p.down.src = far, far, far
	p.up.hold = p.since.Add(2 * max(st.link.Delay, 0))
	return true
}

// wayFree waits until something sent then has arrived at the other side, and
// returns the state at that time; nil when the pair has ended.
func (p *pair) wayFree(timer *time.Timer, then time.Time) *state {
	for {
		st := p.r.state.Load()
		due := then.Add(max(st.link.Delay, 0))
		if due.Before(st.clear) {
			due = st.clear
		}
		switch {
		case p.ctx.Err() != nil:
			return nil
		case st.frozen:
			due = time.Time{}
		case !due.After(time.Now()):
			return st
		}
		p.wait(st, nil, timer, due)
	}
}

// halfOpen wants mu held.
func (p *pair) halfOpen() {
	p.half = true
	p.left.Store(p.up.end == fin)
	if p.far != nil {
		_ = splice.Reset(p.far)
	}
	for _, f := range []*flow{&p.up, &p.down} {
		notify(f.fill)
		notify(f.drain)
	}
}

func (p *pair) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(true)
}

// end closes or resets both sides; only the first call counts. It wants mu held.
func (p *pair) end(reset bool) {
	if p.shut {
		return
	}
	p.shut = true
	shut := net.Conn.Close
	if reset {
		shut = splice.Reset
	}
	_ = shut(p.near)
	if p.far != nil {
		_ = shut(p.far)
	}
	p.cancel()
}

// wait returns when st is no longer the state, on a wake, at a time if that is
// not zero, or when the pair has ended.
func (p *pair) wait(st *state, wake <-chan struct{}, timer *time.Timer, at time.Time) {
	if !at.IsZero() {
		timer.Reset(time.Until(at))
		defer timer.Stop()
	}
	select {
	case <-st.changed:
	case <-wake:
	case <-timer.C:
	case <-p.ctx.Done():
	}
}

// newTimer is one that does not fire until it is Reset.
func newTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// notify wakes who waits on a channel with room for one.
func notify(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
