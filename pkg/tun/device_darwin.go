package tun

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/songgao/water"
	"golang.org/x/sys/unix"
)

// OpenFile makes a utun and returns a file that carries its packets and the
// name of the interface. The library keeps the utun's own descriptor to
// itself, so the file is one end of a datagram socket pair and this process
// relays between the other end and the utun. The interface goes when the file
// and all descriptors made from it are closed, or this process ends.
//
// The MTU is set by Router.Set, together with the addresses.
func OpenFile(mtu int) (*os.File, string, error) {
	if err := checkMTU(mtu); err != nil {
		return nil, "", err
	}
	iface, err := water.New(water.Config{DeviceType: water.TUN})
	if err != nil {
		return nil, "", fmt.Errorf("open a utun: %w", err)
	}
	if err := run([]string{"ifconfig", iface.Name(), "mtu", fmt.Sprint(mtu)}); err != nil {
		_ = iface.Close()
		return nil, "", err
	}
	near, far, err := packetPair()
	if err != nil {
		_ = iface.Close()
		return nil, "", fmt.Errorf("device %s: %w", iface.Name(), err)
	}
	go relay(iface, near)
	return far, iface.Name(), nil
}

// relay copies packets both ways until either end is closed, then closes
// both. It ends by itself: its life is that of the peer's file.
func relay(iface, near io.ReadWriteCloser) {
	var (
		once sync.Once
		wg   sync.WaitGroup
	)
	stop := func() {
		_ = iface.Close()
		_ = near.Close()
	}
	copyPackets := func(dst io.Writer, src io.Reader) {
		defer once.Do(stop)
		buf := make([]byte, MaxMTU+4)
		for {
			n, err := src.Read(buf)
			if err != nil || n == 0 {
				return
			}
			if _, err := dst.Write(buf[:n]); err != nil && !transient(err) {
				return
			}
		}
	}
	wg.Go(func() { copyPackets(near, iface) })
	wg.Go(func() { copyPackets(iface, near) })
	wg.Wait()
}

// transient reports whether err lost one packet rather than the device.
func transient(err error) bool {
	return errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.EINVAL)
}

// packetPair returns two connected ends that keep packet boundaries.
func packetPair() (near, far *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		err = errors.Join(err,
			unix.SetNonblock(fd, true),
			// The default of 2 KiB bounds the size of a datagram.
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20))
	}
	if err != nil {
		_ = unix.Close(fds[0])
		_ = unix.Close(fds[1])
		return nil, nil, fmt.Errorf("prepare a socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "utun-relay"), os.NewFile(uintptr(fds[1]), "utun"), nil
}

// checkFile refuses a file that does not keep packet boundaries.
func checkFile(file *os.File, _ string) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var (
		kind int
		opt  error
	)
	if err := raw.Control(func(fd uintptr) {
		kind, opt = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
	}); err != nil {
		return err
	}
	if opt != nil {
		return fmt.Errorf("not a socket: %w", opt)
	}
	if kind != unix.SOCK_DGRAM {
		return fmt.Errorf("not a datagram socket: type %d", kind)
	}
	return nil
}

func duplicate(file *os.File) (int, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return -1, err
	}
	var (
		dup   int
		fcntl error
	)
	if err := raw.Control(func(fd uintptr) {
		dup, fcntl = unix.FcntlInt(fd, syscall.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return -1, err
	}
	return dup, fcntl
}
