//go:build unix

package datagram

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// Read gives the next datagram of a connected socket to take, which must not keep it. It
// has a buffer only when there is one: most associations are at rest.
func Read(conn *net.UDPConn, take func([]byte) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Read(func(fd uintptr) (done bool) {
		b := buffers.Get().(*[]byte)
		defer buffers.Put(b)
		n, readErr := 0, error(syscall.EINTR)
		for errors.Is(readErr, syscall.EINTR) {
			n, readErr = syscall.Read(int(fd), *b)
		}
		switch {
		case errors.Is(readErr, syscall.EAGAIN):
			return false
		case readErr != nil:
			err = os.NewSyscallError("read", readErr)
		default:
			err = take((*b)[:n])
		}
		return true
	})
	return errors.Join(failed, err)
}
