package netsim

import "time"

// Set changes the link for all that comes from now on; what is under way
// arrives as it would have, and first.
func (r *Relay) Set(link Link) {
	r.change(func(s *state) { s.link = link })
	r.up.lane.clear()
	r.down.lane.clear()
}

// Cut resets all current connections at both ends at once, even while frozen;
// what is under way is lost. New connections are accepted.
func (r *Relay) Cut() {
	r.each(func(p *pair) { p.end(true) })
}

// Freeze makes a black hole of the network: nothing arrives any more in either
// direction, no FIN, no RST and no refusal either, and nobody is told. Senders
// may send until their buffers are full. New connections are accepted by the
// laptop's kernel, and hang.
func (r *Relay) Freeze() {
	r.change(func(s *state) { s.frozen = true })
}

// Thaw ends a Freeze: what was held arrives after the link's delay, as when
// TCP sends it again, and connections that hang are dialed.
func (r *Relay) Thaw() {
	r.change(func(s *state) {
		if s.frozen {
			s.frozen, s.clear = false, time.Now().Add(max(s.link.Delay, 0))
		}
	})
}

// HalfOpen loses all current connections without telling the laptop: the API
// server's side is reset, the laptop's stays open, takes whatever is sent and
// never answers. It ends when the laptop resets it, by Cut or by Close; not by
// the laptop's FIN, to which nobody answers. New connections work.
func (r *Relay) HalfOpen() {
	r.each((*pair).halfOpen)
}

// Refuse makes new connections end at once by RST, or stops doing so. The
// laptop's kernel has accepted them before: most often a dial succeeds, and
// the first read or write fails.
func (r *Relay) Refuse(on bool) {
	r.change(func(s *state) { s.refuse = on })
}

func (r *Relay) change(f func(*state)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.state.Load()
	next := *old
	next.changed = make(chan struct{})
	f(&next)
	r.state.Store(&next)
	close(old.changed)
}

// each calls f for every pair, with its mu held.
func (r *Relay) each(f func(*pair)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pairs {
		p.mu.Lock()
		f(p)
		p.mu.Unlock()
	}
}
