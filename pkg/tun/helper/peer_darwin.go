package helper

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// peerUID is the user whose process is at the other end.
func peerUID(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var (
		cred *unix.Xucred
		opt  error
	)
	if err := raw.Control(func(fd uintptr) {
		cred, opt = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if opt != nil {
		return 0, fmt.Errorf("ask who the peer is: %w", opt)
	}
	return int(cred.Uid), nil
}
