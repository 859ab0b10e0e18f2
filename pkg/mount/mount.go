package mount

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

const (
	// fresh is how long what was said of a file is believed.
	fresh = time.Second
	// unmountLimit bounds the wait for the kernel to let a mount go: a mount namespace that was
	// made meanwhile holds it too.
	unmountLimit = 2 * time.Second
)

// Config says what is shown where.
type Config struct {
	// Dir is the absolute path of the folder: an empty one, or one to be made.
	Dir string
	// Write lets files be changed, where the server does.
	Write bool
	// Open opens a connection to the server. It returns when ctx ends. What it fails with for
	// other reasons than a tunnel.RefusedError is taken to pass.
	Open func(ctx context.Context) (io.ReadWriteCloser, error)
	// Socket connects to a UNIX socket among the files, by its path there. nil: they are
	// seen, and cannot be connected to.
	Socket func(ctx context.Context, path string) (splice.Conn, error)
	Log    *slog.Logger
}

// Mount shows files until it is closed.
type Mount struct {
	cfg    Config
	remote *remote
	recent recent
	seed   maphash.Seed // of inode numbers
	local  *sockets     // nil: there are none
	made   bool         // the folder
	server server
}

// server is what the system has of a mount.
type server interface{ Unmount() error }

// Check returns an error unless files can be shown here, and in the folder. Nothing is
// changed.
func Check(dir string) error {
	if err := available(); err != nil {
		return fmt.Errorf("show files in %s: %w", dir, err)
	}
	return CheckDir(dir)
}

// CheckDir returns an error unless files can be shown in the folder, or in one that can be
// made there. Nothing is changed.
func CheckDir(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if info, err := os.Stat(filepath.Dir(dir)); err != nil || !info.IsDir() {
			return hint.With(fmt.Errorf("files in %s: there is no folder %s", dir, filepath.Dir(dir)), "make it first, or choose another")
		}
		err := os.Mkdir(dir, 0o700)
		if err == nil {
			err = os.Remove(dir)
		}
		if err != nil {
			return hint.With(fmt.Errorf("files in %s: %w", dir, err), "choose a folder that you may make")
		}
	case err != nil:
		return hint.With(fmt.Errorf("files in %s: %w", dir, err), "choose an empty folder")
	case len(entries) > 0:
		return hint.With(fmt.Errorf("files in %s: the folder is not empty", dir), "choose an empty folder, or one that is not there yet")
	}
	return nil
}

// New shows files, until Close. It returns when they are there, or ctx ends before.
func New(ctx context.Context, cfg Config) (*Mount, error) {
	if err := CheckDir(cfg.Dir); err != nil {
		return nil, err
	}
	m := &Mount{cfg: cfg, remote: newRemote(cfg.Open), seed: maphash.MakeSeed()}
	if cfg.Socket != nil {
		m.local = newSockets(cfg.Socket, cfg.Log)
	}
	stop := context.AfterFunc(ctx, m.remote.close)
	if _, err := m.remote.lstat("/"); !stop() || err != nil {
		m.end()
		return nil, fmt.Errorf("show files in %s: %w", cfg.Dir, cmp.Or(context.Cause(ctx), err))
	}
	switch err := os.Mkdir(cfg.Dir, 0o700); {
	case err == nil:
		m.made = true
	case !errors.Is(err, os.ErrExist):
		m.end()
		return nil, fmt.Errorf("show files: %w", err)
	}
	if err := m.mount(); err != nil {
		m.end()
		m.unmake()
		return nil, fmt.Errorf("show files in %s: %w", cfg.Dir, err)
	}
	return m, nil
}

// Close takes the files away, also from programs that have some open, and the folder if it
// was made for them.
func (m *Mount) Close() error {
	m.end() // who waits for an answer would keep the mount busy
	unmounted := make(chan error, 1)
	go func() { unmounted <- m.server.Unmount() }()
	var err error
	select {
	case err = <-unmounted:
	case <-time.After(unmountLimit):
	}
	if err != nil {
		err = detach(m.cfg.Dir)
	}
	if err != nil {
		return fmt.Errorf("take the files in %s away: %w", m.cfg.Dir, err)
	}
	m.unmake()
	return nil
}

// end ends the connections.
func (m *Mount) end() {
	m.remote.close()
	if m.local != nil {
		m.local.close()
	}
}

func (m *Mount) unmake() {
	if m.made {
		_ = os.Remove(m.cfg.Dir) // unless somebody has put something there
	}
}
