package osdns

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inMounts runs f on a thread with mounts of its own, which go with it.
func inMounts(t *testing.T, f func() error) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounts need root")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A container's resolv.conf is a bind mount: no other file can take its place.
func TestResolvConfThatIsABindMount(t *testing.T) {
	m := newMachine(t, map[string]string{"/etc/resolv.conf": "", "/host": office})
	inMounts(t, func() error {
		if err := unix.Mount(m.path("/host"), m.path("/etc/resolv.conf"), "", unix.MS_BIND, ""); err != nil {
			return err
		}
		r := m.resolvConf()
		if err := r.Set("tun0", cluster); err != nil {
			return err
		}
		if got := m.read("/host"); got != clusterConf {
			t.Errorf("set:\n%s", got)
		}
		if err := r.Close(); err != nil {
			return err
		}
		if got := m.read("/etc/resolv.conf"); got != office {
			t.Errorf("put back:\n%s", got)
		}
		return unix.Unmount(m.path("/etc/resolv.conf"), 0)
	})
}

func TestResolvConfThatIsReadOnly(t *testing.T) {
	m := newMachine(t, map[string]string{"/etc/resolv.conf": "", "/host": office})
	inMounts(t, func() error {
		at := m.path("/etc/resolv.conf")
		if err := unix.Mount(m.path("/host"), at, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		if err := unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return err
		}
		before := m.tree()
		err := m.resolvConf().Set("tun0", cluster)
		var h interface{ Hint() string }
		if !errors.Is(err, unix.EROFS) || !errors.As(err, &h) || !strings.Contains(h.Hint(), "read-write") {
			t.Errorf("error %v", err)
		}
		if after := m.tree(); after != before {
			t.Errorf("left behind:\n%s\nwant\n%s", after, before)
		}
		return unix.Unmount(at, 0)
	})
}
