package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

const (
	// maxSockets bounds the listeners of one mount.
	maxSockets = 100
	// maxSocketPath is what the kernels take of a socket's path, in bytes.
	maxSocketPath = 103
)

// sockets stand for the UNIX sockets among the files: programs follow a link to a listener
// of this machine, whose connections are joined to those.
type sockets struct {
	dial func(ctx context.Context, path string) (splice.Conn, error)
	log  *slog.Logger
	ctx  context.Context // ends with them
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	dir   string
	local map[string]string // by the path of the original
}

func newSockets(dial func(ctx context.Context, path string) (splice.Conn, error), log *slog.Logger) *sockets {
	s := &sockets{dial: dial, log: log, local: map[string]string{}}
	s.ctx, s.end = context.WithCancel(context.Background())
	return s
}

// of returns the path of the listener that stands for a socket.
func (s *sockets) of(path string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.local[path]; ok {
		return at, nil
	}
	switch {
	case s.ctx.Err() != nil:
		return "", errClosed
	case len(s.local) >= maxSockets:
		return "", fmt.Errorf("more than %d sockets are in use", maxSockets)
	case s.dir == "":
		dir, err := os.MkdirTemp("", folderOf(os.Getpid())+"-*") // 0700
		if err != nil {
			return "", err
		}
		s.dir = dir
	}
	at := filepath.Join(s.dir, strconv.Itoa(len(s.local)))
	if len(at) > maxSocketPath {
		return "", fmt.Errorf("the path of a socket is too long: %s", at)
	}
	l, err := net.Listen("unix", at)
	if err != nil {
		return "", err
	}
	s.local[path] = at
	s.wg.Go(func() { s.serve(l, path) })
	return at, nil
}

// serve joins connections until the sockets are closed.
func (s *sockets) serve(l net.Listener, path string) {
	defer context.AfterFunc(s.ctx, func() { _ = l.Close() })()
	for {
		conn, err := l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.log.Warn("a socket is not served any more", "path", path, "err", err)
			}
			return
		}
		s.wg.Go(func() {
			if err := s.join(conn.(*net.UnixConn), path); err != nil {
				s.log.Debug("connection to a socket ended", "path", path, "err", err)
			}
		})
	}
}

func (s *sockets) join(conn *net.UnixConn, path string) error {
	ctx, cancel := context.WithTimeoutCause(s.ctx, dialLimit, fmt.Errorf("no answer within %s", dialLimit))
	far, err := s.dial(ctx, path)
	cancel()
	if err != nil {
		_ = conn.Close()
		return err
	}
	_, err = splice.Splice(s.ctx, conn, far)
	return err
}

// close ends the listeners and their connections.
func (s *sockets) close() {
	s.end()
	s.mu.Lock()
	dir := s.dir
	s.mu.Unlock()
	s.wg.Wait()
	if dir != "" {
		_ = os.RemoveAll(dir)
	}
}

// linked is a socket as programs here see it.
type linked struct{ fs.FileInfo }

func (linked) Mode() fs.FileMode { return fs.ModeSymlink | 0o777 }

// seen is what programs here see of a file.
func (s *sockets) seen(info fs.FileInfo) fs.FileInfo {
	if s != nil && info != nil && info.Mode().Type() == fs.ModeSocket {
		return linked{info}
	}
	return info
}
