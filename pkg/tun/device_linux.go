package tun

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/songgao/water"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nameTemplate lets the kernel choose the number.
const nameTemplate = "tele%d"

// OpenFile makes a TUN, gives it its MTU and returns its file and the name of
// the interface. The interface lives as long as the file, or a descriptor
// made from it, is open.
func OpenFile(mtu int) (*os.File, string, error) {
	if err := checkMTU(mtu); err != nil {
		return nil, "", err
	}
	iface, err := water.New(water.Config{
		DeviceType:             water.TUN,
		PlatformSpecificParams: water.PlatformSpecificParams{Name: nameTemplate},
	})
	if err != nil {
		return nil, "", fmt.Errorf("open /dev/net/tun: %w", err)
	}
	file, ok := iface.ReadWriteCloser.(*os.File)
	if !ok {
		_ = iface.Close()
		return nil, "", errors.New("open /dev/net/tun: the descriptor is hidden")
	}
	if err := setMTU(iface.Name(), mtu); err != nil {
		_ = file.Close()
		return nil, "", err
	}
	return file, iface.Name(), nil
}

func setMTU(name string, mtu int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("device %s: %w", name, err)
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("device %s: set mtu %d: %w", name, mtu, err)
	}
	return nil
}

// checkFile refuses a file that is not the TUN called name, or one that puts
// headers of its own before the packets.
func checkFile(file *os.File, name string) error {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var ioctl error
	if err := raw.Control(func(fd uintptr) {
		ioctl = unix.IoctlIfreq(int(fd), unix.TUNGETIFF, ifr)
	}); err != nil {
		return err
	}
	if ioctl != nil {
		return fmt.Errorf("not a tun: %w", ioctl)
	}
	if ifr.Name() != name {
		return fmt.Errorf("the descriptor belongs to %q", ifr.Name())
	}
	const want, never = unix.IFF_TUN | unix.IFF_NO_PI, unix.IFF_TAP | unix.IFF_VNET_HDR
	if flags := ifr.Uint16(); flags&want != want || flags&never != 0 {
		return fmt.Errorf("not a plain tun: flags %#x", flags)
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
		dup, fcntl = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return -1, err
	}
	return dup, fcntl
}

// vector is one gathering write. It is pooled, and its func with it, because
// every packet to the kernel needs one.
type vector struct {
	parts [][]byte
	n     int
	err   error
	write func(fd uintptr)
}

var vectors = sync.Pool{New: func() any {
	v := new(vector)
	v.write = func(fd uintptr) {
		for {
			v.n, v.err = unix.Writev(int(fd), v.parts)
			if !errors.Is(v.err, unix.EINTR) {
				return
			}
		}
	}
	return v
}}

// WritePacket implements VectorWriter. The kernel takes a packet at once or
// not at all, so there is nothing to wait for and several may write.
func (d *device) WritePacket(parts [][]byte) (int, error) {
	v := vectors.Get().(*vector)
	v.parts = parts
	err := d.raw.Control(v.write)
	n := v.n
	switch {
	case err != nil: // the only reason there is
		err = &os.PathError{Op: "writev", Path: d.name, Err: os.ErrClosed}
	case v.err != nil:
		err = &os.PathError{Op: "writev", Path: d.name, Err: v.err}
	}
	v.parts, v.n, v.err = nil, 0, nil
	vectors.Put(v)
	return n, err
}
