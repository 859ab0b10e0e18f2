package intercept

import (
	"sync"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

// listeners are the commands that wait for an intercept and are told of its
// progress: the one that begins it, and those that leave it. The zero value has
// none.
type listeners struct {
	mu   sync.Mutex
	next int
	all  map[int]api.Progress
}

// add tells p of what happens from now on, until remove is called.
func (l *listeners) add(p api.Progress) (remove func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[int]api.Progress{}
	}
	l.next++
	n := l.next
	l.all[n] = p
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.all, n)
	}
}

// emit returns a Progress that tells all who listen at the time of the event.
func (l *listeners) emit() api.Progress {
	return func(e api.Event) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, p := range l.all {
			p.Emit(e)
		}
	}
}

// once returns a Progress that passes each text on to p the first time alone.
func once(p api.Progress) api.Progress {
	var mu sync.Mutex
	told := map[string]bool{}
	return func(e api.Event) {
		mu.Lock()
		defer mu.Unlock()
		if !told[e.Text] {
			told[e.Text] = true
			p.Emit(e)
		}
	}
}
