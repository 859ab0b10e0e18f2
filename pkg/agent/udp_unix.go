//go:build unix

package agent

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// readDatagram gives the next datagram to take. It has a buffer only when there
// is one: most associations are at rest.
func readDatagram(conn *net.UDPConn, take func([]byte) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Read(func(fd uintptr) (done bool) {
		b := datagrams.Get().(*[]byte)
		defer datagrams.Put(b)
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
