package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// registry knows the live sessions and which of them intercepts which port.
type registry struct {
	mu         sync.Mutex
	ports      map[uint16]*intercept // nil values: captured, not intercepted
	sessions   map[*tunnel.Tunnel]string
	lastActive time.Time // when the last session went; or the start
}

// intercept is a session's right to the new connections of a port.
type intercept struct {
	request api.InterceptRequest
	session string
	tunnel  *tunnel.Tunnel
	ended   context.Context
	end     context.CancelFunc
}

// alive says whether the session can be offered connections now. One that is
// lost may come back.
func (i *intercept) alive() bool {
	select {
	case <-i.tunnel.Done():
		return false
	default:
		_, lost := i.tunnel.Lost()
		return !lost
	}
}

var errNotCaptured = errors.New("port is not captured here")

// conflictError says who holds the port.
type conflictError struct{ held api.InterceptRequest }

func (e *conflictError) Error() string {
	o := e.held.Owner
	return fmt.Sprintf("port %d is intercepted by %s@%s since %s", e.held.Port, o.User, o.Host, o.Since.UTC().Format(time.RFC3339))
}

func newRegistry(captures []api.Capture) *registry {
	r := &registry{
		ports:      make(map[uint16]*intercept),
		sessions:   make(map[*tunnel.Tunnel]string),
		lastActive: time.Now(),
	}
	for _, c := range captures {
		r.ports[c.App] = nil
	}
	return r
}

// add makes request the intercept of its port. A session that comes again
// takes over from its former self.
func (r *registry) add(request api.InterceptRequest, t *tunnel.Tunnel) (*intercept, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, captured := r.ports[request.Port]
	switch {
	case !captured:
		return nil, errNotCaptured
	case old != nil && old.alive() && old.session != t.PeerSession():
		return nil, &conflictError{old.request}
	case old != nil:
		old.end()
	}
	ctx, end := context.WithCancel(context.Background())
	i := &intercept{request: request, session: t.PeerSession(), tunnel: t, ended: ctx, end: end}
	r.ports[request.Port] = i
	return i, nil
}

// remove ends an intercept; it may have been replaced before.
func (r *registry) remove(i *intercept) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i.end()
	if r.ports[i.request.Port] == i {
		r.ports[i.request.Port] = nil
	}
}

// of is the live intercept of an app's port, or nil.
func (r *registry) of(port uint16) *intercept {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.ports[port]; i != nil && i.alive() {
		return i
	}
	return nil
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

// live are the IDs of the sessions that are reached.
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

// idleSince says since when no session has been reached; false: one is.
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
