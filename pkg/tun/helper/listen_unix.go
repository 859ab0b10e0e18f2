//go:build linux || darwin

package helper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// socketName is the socket's name in its folder.
const socketName = "helper.sock"

// rootUID is whom a session takes as its helper.
const rootUID = 0

// Listener waits for the helper that the session has started.
type Listener struct {
	l    *net.UnixListener
	path string
	peer int
}

// Listen makes a socket in dir, which must be a folder of this user with mode
// 0700 and is made if it is not there.
func Listen(dir string) (*Listener, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("listen for the helper: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("listen for the helper: %w", err)
	}
	if err := checkFolder(dir, os.Getuid()); err != nil {
		return nil, fmt.Errorf("listen for the helper: %w", err)
	}
	path := filepath.Join(dir, socketName)
	// One left by a crashed session would be in the way.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen for the helper: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for the helper: %w", err)
	}
	return &Listener{l: l, path: path, peer: rootUID}, nil
}

// Path is the socket, for the helper's command line.
func (l *Listener) Path() string { return l.path }

// Accept waits until the helper has connected and has answered. Peers that
// are not root are turned away.
func (l *Listener) Accept(ctx context.Context) (*Client, error) {
	stop := context.AfterFunc(ctx, func() { _ = l.l.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		conn, err := l.l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return nil, fmt.Errorf("wait for the helper: %w", err)
		}
		if checkPeer(conn, l.peer) != nil {
			_ = conn.Close()
			continue
		}
		c := newClient(conn)
		if _, _, err := c.ask(ctx, request{Op: opHello, Version: protocol}); err != nil {
			_ = c.Close()
			return nil, err
		}
		return c, nil
	}
}

// Close stops listening and removes the socket. Clients stay.
func (l *Listener) Close() error { return l.l.Close() }
