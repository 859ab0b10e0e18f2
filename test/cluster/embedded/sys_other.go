//go:build !linux

package embedded

import (
	"context"
	"errors"
	"net"
)

var errNotLinux = errors.New("the embedded cluster needs Linux")

func dialIn(context.Context, string, string, string) (net.Conn, error) { return nil, errNotLinux }

func listenIn(context.Context, string, string, string) (net.Listener, error) {
	return nil, errNotLinux
}

func listenPacketIn(context.Context, string, string, string) (net.PacketConn, error) {
	return nil, errNotLinux
}

func inode(string) uint64 { return 0 }

func overlayable(string) bool { return false }

func isNamespace(string) bool { return false }
