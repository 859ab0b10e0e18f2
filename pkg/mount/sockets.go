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
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

const (
	// maxSockets bounds the listeners of one mount.
	maxSockets = 100
	// maxSocketPath is what the kernels take of a socket's path, in bytes.
	maxSocketPath = 103
	// acceptPause is for a listener that cannot accept: this process may have too many files.
	acceptPause = 200 * time.Millisecond
)

// sockets stand for the UNIX sockets among the files: programs follow a link to a listener
// of this machine, whose connections are joined to those.
type sockets struct {
	dial func(ctx context.Context, path string) (splice.Conn, error)
	log  *slog.Logger
	ctx  context.Context // ends with them
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	dir    string
	made   int                // listeners, ever
	local  map[string]*socket // by the path of the original
	logged map[string]bool    // errors, by their text
}

// socket is a listener that stands for a socket.
type socket struct {
	net.Listener
	path string // of the original

	// sockets.mu guards these.
	conns int       // that are open
	used  time.Time // when it was asked for, or its last connection ended
}

func newSockets(dial func(ctx context.Context, path string) (splice.Conn, error), log *slog.Logger) *sockets {
	s := &sockets{dial: dial, log: log, local: map[string]*socket{}, logged: map[string]bool{}}
	s.ctx, s.end = context.WithCancel(context.Background())
	return s
}

// of returns the path of the listener that stands for a socket. An error is logged once.
func (s *sockets) of(path string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.listener(path)
	if err != nil {
		if said := err.Error(); !errors.Is(err, errClosed) && !s.logged[said] && len(s.logged) < maxSockets {
			s.logged[said] = true
			s.log.Warn("a socket cannot be connected to", "path", path, "err", err)
		}
		return "", err
	}
	return l.Addr().String(), nil
}

// listener returns the one that stands for a socket, or makes it. The caller holds s.mu.
func (s *sockets) listener(path string) (*socket, error) {
	if l := s.local[path]; l != nil {
		l.used = time.Now()
		return l, nil
	}
	switch {
	case s.ctx.Err() != nil:
		return nil, errClosed
	case len(s.local) >= maxSockets && !s.makeRoom():
		return nil, fmt.Errorf("more than %d sockets are in use", maxSockets)
	case s.dir == "":
		dir, err := os.MkdirTemp("", folderOf(os.Getpid())+"-*") // 0700
		if err != nil {
			return nil, err
		}
		s.dir = dir
	}
	at := filepath.Join(s.dir, strconv.Itoa(s.made))
	if len(at) > maxSocketPath {
		return nil, fmt.Errorf("the path of a socket is too long: %s", at)
	}
	inner, err := net.Listen("unix", at)
	if err != nil {
		return nil, err
	}
	l := &socket{Listener: inner, path: path, used: time.Now()}
	s.made++
	s.local[path] = l
	s.wg.Go(func() { s.serve(l) })
	return l, nil
}

// makeRoom ends the listener that has not been used for the longest. It reports whether there
// is one without a connection. The caller holds s.mu.
func (s *sockets) makeRoom() bool {
	var oldest *socket
	for _, l := range s.local {
		if l.conns == 0 && (oldest == nil || l.used.Before(oldest.used)) {
			oldest = l
		}
	}
	if oldest == nil {
		return false
	}
	delete(s.local, oldest.path)
	_ = oldest.Close()
	return true
}

// serve joins connections until the listener is closed, which it is with the sockets.
func (s *sockets) serve(l *socket) {
	defer context.AfterFunc(s.ctx, func() { _ = l.Close() })()
	for {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			s.log.Debug("a connection to a socket was not accepted", "path", l.path, "err", err)
			select {
			case <-s.ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		s.count(l, 1)
		s.wg.Go(func() {
			defer s.count(l, -1)
			if err := s.join(conn.(*net.UnixConn), l.path); err != nil {
				s.log.Debug("connection to a socket ended", "path", l.path, "err", err)
			}
		})
	}
}

// count counts the connections of a listener.
func (s *sockets) count(l *socket, change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.conns += change
	l.used = time.Now()
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
	s.mu.Lock()
	s.end()
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
