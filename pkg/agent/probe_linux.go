package agent

import (
	"errors"
	"math"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// canProbe reports whether this system can make probes and recognise them.
const canProbe = true

// announce returns a net.Dialer's Control with which the connection's SYN
// announces a maximum segment size, in bytes.
func announce(mss uint16) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		closed := c.Control(func(fd uintptr) {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, int(mss)))
		})
		return errors.Join(closed, err)
	}
}

// announced returns the maximum segment size that the client of an accepted
// connection announced, less the TCP options of each segment, in bytes; or the
// smaller one that this end allows itself. It returns 0 if the kernel does not
// tell.
func announced(conn *net.TCPConn) uint16 {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	var info *unix.TCPInfo
	closed := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if closed != nil || err != nil {
		return 0
	}
	return uint16(min(info.Snd_mss, math.MaxUint16))
}
