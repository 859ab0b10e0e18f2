package tunnel

import (
	"fmt"
	"os"
	"sync"
	"time"
)

var errDeadline = fmt.Errorf("flow: %w", os.ErrDeadlineExceeded)

// deadline is one of a flow's two, guarded by Flow.mu.
type deadline struct {
	passed bool
	timer  *time.Timer
	epoch  int // timers of earlier epochs mean nothing
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.epoch++
}

// set replaces the deadline; zero means none. wake is called when it passes,
// with mu held.
func (d *deadline) set(t time.Time, mu *sync.Mutex, wake func()) {
	d.stop()
	d.passed = false
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.passed = true
		wake()
		return
	}
	epoch := d.epoch
	d.timer = time.AfterFunc(left, func() {
		mu.Lock()
		defer mu.Unlock()
		if d.epoch == epoch {
			d.passed = true
			wake()
		}
	})
}

// SetDeadline sets both.
func (f *Flow) SetDeadline(t time.Time) error { return f.setDeadlines(t, true, true) }

// SetReadDeadline bounds Reads, also those that wait now.
func (f *Flow) SetReadDeadline(t time.Time) error { return f.setDeadlines(t, true, false) }

// SetWriteDeadline bounds Writes, also those that wait now.
func (f *Flow) SetWriteDeadline(t time.Time) error { return f.setDeadlines(t, false, true) }

func (f *Flow) setDeadlines(t time.Time, read, write bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.state == stateOver {
		return errFlowClosed
	}
	if read {
		f.readBy.set(t, &f.mu, f.readableLocked)
	}
	if write {
		f.writeBy.set(t, &f.mu, f.canWrite.Broadcast)
	}
	return nil
}
