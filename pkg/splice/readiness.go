package splice

import "sync"

// Readiness helps a Polled to call ready exactly when it has to. The zero
// value is ready for use, and safe for concurrent use.
type Readiness struct {
	mu    sync.Mutex
	ready func() // of who waits
	set   bool   // since a Wait has last returned false
}

// Set says that a read may get something. It calls the function that waits for
// that, if there is one.
func (r *Readiness) Set() {
	r.mu.Lock()
	ready := r.ready
	r.ready, r.set = nil, ready == nil
	r.mu.Unlock()
	if ready != nil {
		ready()
	}
}

// Wait is for a read that got nothing. true: ready will be called at the next
// Set. false: there has been one, so read again.
func (r *Readiness) Wait(ready func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set {
		r.set = false
		return false
	}
	r.ready = ready
	return true
}
