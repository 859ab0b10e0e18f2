//go:build unix

package files

import (
	"os"

	"golang.org/x/sys/unix"
)

// flush returns what the system says when one of a file's descriptors is closed, which is
// when file systems of other machines tell what has become of writes. The file stays open.
func flush(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		second, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			err = unix.Close(second)
		}
		failed = err
	})
	if err != nil {
		return err
	}
	return failed
}
