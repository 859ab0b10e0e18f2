package control

import (
	"context"
	"sync"
	"time"
)

// idleLimit is how long a session that is unused waits for a command before it
// ends by itself.
const idleLimit = 5 * time.Second

// lifetime counts the operations under way, and ends a session that is unused
// once there has been none for idleLimit.
type lifetime struct {
	unused func() bool
	end    context.CancelFunc // makes Serve return

	mu         sync.Mutex
	operations int
	ending     bool // no operation is begun any more
	idle       *time.Timer
}

func newLifetime(unused func() bool, end context.CancelFunc) *lifetime {
	l := &lifetime{unused: unused, end: end}
	l.idle = time.AfterFunc(idleLimit, l.expire)
	return l
}

// begin keeps the session from expiring until done is called. It reports false
// if the session is ending already.
func (l *lifetime) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending {
		return false
	}
	l.operations++
	l.idle.Stop()
	return true
}

// done ends what begin began.
func (l *lifetime) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.operations--
	if l.operations == 0 && l.unused() {
		l.idle.Reset(idleLimit)
	}
}

// expire ends the session, unless an operation has begun meanwhile.
func (l *lifetime) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.operations == 0 {
		l.endLocked()
	}
}

// finish ends the session.
func (l *lifetime) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLocked()
}

func (l *lifetime) endLocked() {
	l.ending = true
	l.end()
}
