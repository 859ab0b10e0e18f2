package control

import (
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/flock"
)

// errLocked is returned for a folder whose session is running.
var errLocked = errors.New("another process has the lock")

// lockEvery is how often the lock of a folder is tried.
const lockEvery = 50 * time.Millisecond

// lock takes the lock of a session's folder without waiting. It returns errLocked
// while another process has it. The caller calls unlock; the system does when the
// process dies.
func lock(dir string) (unlock func(), err error) {
	l := flock.New(lockFile(dir))
	switch locked, err := l.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("lock %s: %w", l.Path(), err)
	case !locked:
		return nil, fmt.Errorf("lock %s: %w", l.Path(), errLocked)
	}
	return func() { _ = l.Close() }, nil
}
