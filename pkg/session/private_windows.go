package session

import (
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// checkPrivate has nothing to check: the cache folder of a Windows user is
// private by its ACL.
func checkPrivate(string) error { return nil }

// lock takes the session's lock without waiting; the returned func gives it
// back. The system gives it back when the process dies.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	flags := uint32(windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY)
	if err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{}); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}
