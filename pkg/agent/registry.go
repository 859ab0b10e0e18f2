package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// registry knows the live sessions, and which of their registrations holds
// which captured port. All methods may be called concurrently.
type registry struct {
	mu         sync.Mutex
	ports      map[api.Port][]*claim // by the app's captured port, in the order to ask
	mirrors    map[api.Port][]*claim // those that get copies
	reading    []*hold               // those without rules
	sessions   map[*tunnel.Tunnel]string
	lastActive time.Time // when the last session went; or the start
}

// hold is a registration's right to the new connections of its ports.
type hold struct {
	registration api.Registration
	session      string
	tunnel       *tunnel.Tunnel
	ended        context.Context // ends when the right does
	end          context.CancelFunc
}

// claim is a rule of a hold for one port.
type claim struct {
	*hold
	rule    api.Rule
	match   router.Match
	taken   atomic.Int64 // connections, or requests
	dropped atomic.Int64 // copies that were not delivered
	copying atomic.Int64 // copies, or connections of them, that are on their way
}

// conflicts reports whether two claims cannot be had at once. A rule for all
// traffic goes with rules of requests, which are asked first; of these, none may
// contain another's, unless one session has both.
func (c *claim) conflicts(other *claim) bool {
	switch {
	case c.rule.Action == api.Mirror:
		return false
	case c.match.All() || other.match.All():
		return c.match.All() && other.match.All()
	case c.session == other.session:
		return c.match.Contains(other.match) && other.match.Contains(c.match)
	}
	return c.match.Contains(other.match) || other.match.Contains(c.match)
}

// refuses reports whether nobody else is to answer what the session does not take. That
// holds while it is reached: an app never waits for a laptop that has gone.
func (c *claim) refuses() bool {
	return c.rule.Down == api.Refuse && c.ended.Err() == nil && c.alive()
}

// mirror begins a copy, unless too many are on their way.
func (c *claim) mirror(t router.Taker) (to router.Mirror, ok bool) {
	if c.copying.Add(1) > maxCopying {
		c.copying.Add(-1)
		c.dropped.Add(1)
		return router.Mirror{}, false
	}
	return router.Mirror{Taker: t, Dropped: func() { c.dropped.Add(1) }, Done: func() { c.copying.Add(-1) }}, true
}

// alive reports whether the session can be offered connections now. A session
// that is lost may come back.
func (h *hold) alive() bool {
	select {
	case <-h.tunnel.Done():
		return false
	default:
		_, lost := h.tunnel.Lost()
		return !lost
	}
}

// yieldsTo reports whether a hold whose session is not alive ends for the sake of
// another. What is only lost may come back, so that takes the other's word, or its
// being the same laptop's.
func (h *hold) yieldsTo(other *hold) bool {
	mine, theirs := h.registration.Owner, other.registration.Owner
	return h.tunnel.Err() != nil || other.registration.TakeOver || mine.User == theirs.User && mine.Host == theirs.Host
}

// same reports whether two holds are the same registration of one session.
func (h *hold) same(other *hold) bool {
	return h.session == other.session && h.registration.ID == other.registration.ID
}

// notCapturedError is a port that a registration asks for in vain.
type notCapturedError struct{ port api.Port }

func (e *notCapturedError) Error() string {
	return fmt.Sprintf("port %s: port is not captured here", e.port)
}

// conflictError tells who holds a port.
type conflictError struct {
	asked, holder *claim
}

func (e *conflictError) Error() string {
	owner := e.holder.registration.Owner
	text := fmt.Sprintf("port %s is intercepted by %s@%s since %s", e.holder.rule.Port, owner.User, owner.Host, owner.Since.UTC().Format(time.RFC3339))
	if !e.holder.match.All() {
		text = fmt.Sprintf("%s, whose requests (%s) are among or contain these (%s)", text, e.holder.match, e.asked.match)
	}
	if since, lost := e.holder.tunnel.Lost(); lost {
		text = fmt.Sprintf("%s; that session has not been reached for %s", text, max(time.Second, time.Since(since)).Round(time.Second))
	}
	return text
}

func newRegistry() *registry {
	return &registry{
		ports:      make(map[api.Port][]*claim),
		mirrors:    make(map[api.Port][]*claim),
		sessions:   make(map[*tunnel.Tunnel]string),
		lastActive: time.Now(),
	}
}

// capture makes an app's port one that registrations can hold.
func (r *registry) capture(port api.Port) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, captured := r.ports[port]; !captured {
		r.ports[port] = nil
	}
}

// add gives the registration all its ports, or none and an error: a
// *notCapturedError, or a *conflictError if the holder of a port is another
// registration, be it the same session's, that does not yield. A registration
// that is replaced ends whole: the former self of the new one, and those of lost
// sessions that yield a port to it.
func (r *registry) add(registration api.Registration, t *tunnel.Tunnel) (*hold, error) {
	ctx, end := context.WithCancel(context.Background())
	h := &hold{registration: registration, session: t.PeerSession(), tunnel: t, ended: ctx, end: end}
	r.mu.Lock()
	defer r.mu.Unlock()
	claims := make([]*claim, 0, len(registration.Rules))
	var replaced []*hold
	for _, rule := range registration.Rules {
		match, err := router.NewMatch(rule.Match)
		if err != nil {
			end()
			return nil, err
		}
		asked := &claim{hold: h, rule: rule, match: match}
		others, captured := r.ports[rule.Port]
		if !captured {
			end()
			return nil, &notCapturedError{rule.Port}
		}
		for _, other := range others {
			switch {
			case !asked.conflicts(other):
			case !other.same(h) && (other.alive() || !other.yieldsTo(h)):
				end()
				return nil, &conflictError{asked, other}
			default:
				replaced = append(replaced, other.hold)
			}
		}
		claims = append(claims, asked)
	}
	for _, all := range []map[api.Port][]*claim{r.ports, r.mirrors} {
		for _, others := range all {
			for _, other := range others {
				if other.same(h) {
					replaced = append(replaced, other.hold)
				}
			}
		}
	}
	for _, other := range r.reading {
		if other.same(h) {
			replaced = append(replaced, other)
		}
	}
	for _, old := range replaced {
		r.removeLocked(old)
	}
	if len(claims) == 0 {
		r.reading = append(r.reading, h)
	}
	for _, c := range claims {
		if c.rule.Action == api.Mirror {
			r.mirrors[c.rule.Port] = append(slices.Clone(r.mirrors[c.rule.Port]), c)
		} else {
			r.ports[c.rule.Port] = inOrder(r.ports[c.rule.Port], c)
		}
	}
	return h, nil
}

// inOrder returns the claims with another one, before those that contain it. Those
// that it contains stand before these already; of others the older come first.
func inOrder(claims []*claim, c *claim) []*claim {
	i := slices.IndexFunc(claims, func(have *claim) bool { return c.match.Within(have.match) })
	if i < 0 {
		i = len(claims)
	}
	return slices.Insert(slices.Clone(claims), i, c)
}

// remove ends a hold and gives its ports back. It does nothing to a hold that
// was replaced before.
func (r *registry) remove(h *hold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeLocked(h)
}

func (r *registry) removeLocked(h *hold) {
	h.end()
	r.reading = slices.DeleteFunc(r.reading, func(other *hold) bool { return other == h })
	for _, rule := range h.registration.Rules {
		for _, all := range []map[api.Port][]*claim{r.ports, r.mirrors} {
			others := slices.Clone(all[rule.Port]) // who asks may hold the list
			all[rule.Port] = slices.DeleteFunc(others, func(c *claim) bool { return c.hold == h })
		}
	}
}

// claims returns the rules of an app's port in the order to ask. The caller does
// not change the list.
func (r *registry) claims(port api.Port) []*claim {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ports[port]
}

// copies returns the rules of an app's port that get copies. The caller does not change
// the list.
func (r *registry) copies(port api.Port) []*claim {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mirrors[port]
}

// of returns the claim of the live holder of all traffic of an app's port, or nil.
func (r *registry) of(port api.Port) *claim {
	for _, c := range r.claims(port) {
		if c.match.All() && c.alive() {
			return c
		}
	}
	return nil
}

// looks reports whether connections to an app's port are to be looked into: a live
// session has a rule of requests.
func (r *registry) looks(port api.Port) bool {
	ofRequests := func(c *claim) bool { return !c.match.All() && c.alive() }
	return slices.ContainsFunc(r.claims(port), ofRequests) || slices.ContainsFunc(r.copies(port), ofRequests)
}

// holders tells who has rules for an app's port, reached or not.
func (r *registry) holders(port api.Port) (all []api.Holder) {
	for _, c := range slices.Concat(r.claims(port), r.copies(port)) {
		h, ok := c.describe()
		if !ok {
			continue
		}
		h.Match, h.Taken, h.Mirror, h.Dropped = c.rule.Match, c.taken.Load(), c.rule.Action == api.Mirror, c.dropped.Load()
		all = append(all, h)
	}
	return all
}

// readers tells who has no rules, reached or not.
func (r *registry) readers() (all []api.Holder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.reading {
		if holder, ok := h.describe(); ok {
			all = append(all, holder)
		}
	}
	return all
}

// describe tells whose hold it is; ok is false if it has ended.
func (h *hold) describe() (holder api.Holder, ok bool) {
	if h.ended.Err() != nil || h.tunnel.Err() != nil {
		return holder, false
	}
	holder = api.Holder{ID: h.registration.ID, Owner: h.registration.Owner}
	if since, lost := h.tunnel.Lost(); lost {
		holder.LostSeconds = max(time.Since(since), time.Millisecond).Seconds()
	}
	return holder, true
}

func (r *registry) enter(t *tunnel.Tunnel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions[t] = t.PeerSession()
}

func (r *registry) leave(t *tunnel.Tunnel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, t)
	r.lastActive = time.Now()
}

// live returns the sorted IDs of the sessions that are reached.
func (r *registry) live() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]string, 0, len(r.sessions))
	for t, id := range r.sessions {
		if _, lost := t.Lost(); !lost && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// idleSince returns since when no session has been reached, and false if one
// is.
func (r *registry) idleSince() (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.lastActive
	for t := range r.sessions {
		since, lost := t.Lost()
		if !lost {
			return time.Time{}, false
		}
		if since.After(last) {
			last = since
		}
	}
	return last, true
}
