package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// DialSocket connects to the UNIX socket that an app has at a path in its volumes. It is
// for Linux.
func DialSocket(ctx context.Context, volumes []api.Volume, name string) (*net.UnixConn, error) {
	t := newTree(volumes)
	defer t.close()
	p, rel, ok := t.find(path.Clean("/" + name))
	if !ok {
		return nil, &fs.PathError{Op: "connect", Path: name, Err: fs.ErrNotExist}
	}
	if p.err != nil {
		return nil, p.err
	}
	info, err := p.root.Lstat(rel)
	if err != nil {
		return nil, err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return nil, &fs.PathError{Op: "connect", Path: name, Err: errors.New("not a socket")}
	}
	dir, err := openFolder(p.root, path.Dir(rel))
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	// The folder is the one that was found, whatever its path leads to now; and the kernel
	// takes 107 bytes of a path at most.
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), path.Base(rel))
	conn, err := new(net.Dialer).DialContext(ctx, "unix", short)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}
