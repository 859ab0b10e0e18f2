package embedded

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// dialIn dials from inside a network namespace. The address must be a literal
// IP and port: a name would be resolved outside.
func dialIn(ctx context.Context, netns, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if net.ParseIP(host) == nil {
		return nil, fmt.Errorf("dial %s: want a literal address", address)
	}
	var conn net.Conn
	err = inNetNS(netns, func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// listenIn is dialIn for listeners.
func listenIn(ctx context.Context, netns, network, address string) (net.Listener, error) {
	var l net.Listener
	err := inNetNS(netns, func() (err error) {
		var c net.ListenConfig
		l, err = c.Listen(ctx, network, address)
		return err
	})
	return l, err
}

// listenPacketIn is dialIn for sockets of datagrams.
func listenPacketIn(ctx context.Context, netns, network, address string) (net.PacketConn, error) {
	var l net.PacketConn
	err := inNetNS(netns, func() (err error) {
		var c net.ListenConfig
		l, err = c.ListenPacket(ctx, network, address)
		return err
	})
	return l, err
}

// inNetNS runs f on a thread that has entered the namespace. Sockets made by f
// stay there; goroutines started by f do not.
func inNetNS(file string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		// A thread that cannot come home stays locked, and ends with this goroutine.
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// The main thread's namespaces are what others take for the process's;
			// while it is held here, another thread is sure to be used.
			done <- inNetNS(file, f)
			runtime.UnlockOSThread()
			return
		}
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- fmt.Errorf("open the current network namespace: %w", err)
			return
		}
		defer func() { _ = home.Close() }()
		there, err := os.Open(file)
		if err != nil {
			done <- fmt.Errorf("open network namespace: %w", err)
			return
		}
		defer func() { _ = there.Close() }()
		if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace %s: %w", file, err)
			return
		}
		err = f()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// inode tells which namespace a file stands for; 0 if it cannot be told.
func inode(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Ino
}

// overlayable says whether an overlay may have its upper layer in this folder.
func overlayable(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type != unix.OVERLAYFS_SUPER_MAGIC
}

// isNamespace says whether a file holds a namespace.
func isNamespace(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}
