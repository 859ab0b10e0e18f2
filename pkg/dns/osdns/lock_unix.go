//go:build unix

package osdns

import (
	"os"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// lockFile makes and locks a file that its holder may remove: the lock counts
// only if the path still leads to it.
func lockFile(path string) (*flock.Flock, error) {
	for {
		lock := flock.New(path, flock.SetFlag(os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW))
		locked, err := lock.TryLock()
		if err != nil {
			return nil, err
		}
		if !locked {
			return nil, ErrInUse
		}
		mine, err := lock.Stat()
		there, err2 := os.Lstat(path)
		if err == nil && err2 == nil && os.SameFile(mine, there) {
			return lock, nil
		}
		_ = lock.Close() // its holder has just removed it
	}
}
