package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// registry knows the live sessions, and which of their registrations holds
// which captured port. All methods may be called concurrently.
type registry struct {
	mu         sync.Mutex
	ports      map[uint16]*hold // by the app's port; nil: captured, not held
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

// same reports whether two holds are the same registration of one session.
func (h *hold) same(other *hold) bool {
	return h.session == other.session && h.registration.ID == other.registration.ID
}

// notCapturedError is a port that a registration asks for in vain.
type notCapturedError struct{ port uint16 }

func (e *notCapturedError) Error() string {
	return fmt.Sprintf("port %d: port is not captured here", e.port)
}

// conflictError tells who holds a port.
type conflictError struct {
	port  uint16
	owner api.Owner
}

func (e *conflictError) Error() string {
	return fmt.Sprintf("port %d is intercepted by %s@%s since %s", e.port, e.owner.User, e.owner.Host, e.owner.Since.UTC().Format(time.RFC3339))
}

func newRegistry() *registry {
	return &registry{
		ports:      make(map[uint16]*hold),
		sessions:   make(map[*tunnel.Tunnel]string),
		lastActive: time.Now(),
	}
}

// capture makes an app's port one that registrations can hold.
func (r *registry) capture(port uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, captured := r.ports[port]; !captured {
		r.ports[port] = nil
	}
}

// add gives the registration all its ports, or none and an error: a
// *notCapturedError, or a *conflictError if the live holder of a port is
// another registration, be it the same session's. A registration that is
// replaced ends whole: the former self of the new one, and those of lost
// sessions that hold a port of it.
func (r *registry) add(registration api.Registration, t *tunnel.Tunnel) (*hold, error) {
	ctx, end := context.WithCancel(context.Background())
	h := &hold{registration: registration, session: t.PeerSession(), tunnel: t, ended: ctx, end: end}
	r.mu.Lock()
	defer r.mu.Unlock()
	var replaced []*hold
	for _, rule := range registration.Rules {
		old, captured := r.ports[rule.Port]
		switch {
		case !captured:
			end()
			return nil, &notCapturedError{rule.Port}
		case old == nil:
		case old.alive() && !old.same(h):
			end()
			return nil, &conflictError{rule.Port, old.registration.Owner}
		default:
			replaced = append(replaced, old)
		}
	}
	for _, old := range r.ports {
		if old != nil && old.same(h) {
			replaced = append(replaced, old)
		}
	}
	for _, old := range replaced {
		r.removeLocked(old)
	}
	for _, rule := range registration.Rules {
		r.ports[rule.Port] = h
	}
	return h, nil
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
	for _, rule := range h.registration.Rules {
		if r.ports[rule.Port] == h {
			r.ports[rule.Port] = nil
		}
	}
}

// of returns the live holder of an app's port, or nil.
func (r *registry) of(port uint16) *hold {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.ports[port]; h != nil && h.alive() {
		return h
	}
	return nil
}

// holder tells who holds an app's port, reached or not; nil if nobody does.
func (r *registry) holder(port uint16) *api.Holder {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.ports[port]
	if h == nil || h.ended.Err() != nil || h.tunnel.Err() != nil {
		return nil
	}
	holder := &api.Holder{ID: h.registration.ID, Owner: h.registration.Owner}
	if since, lost := h.tunnel.Lost(); lost {
		holder.LostSeconds = max(time.Since(since), time.Millisecond).Seconds()
	}
	return holder
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
