//go:build unix

package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pkg/sftp"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/agent/files"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// agents serve a folder over connections that a test can cut.
type agents struct {
	dir   string
	write bool
	mu    sync.Mutex
	up    []net.Conn
	away  bool
}

func (a *agents) open(context.Context) (io.ReadWriteCloser, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return nil, errors.New("nobody is there")
	}
	near, far := net.Pipe()
	a.up = append(a.up, far)
	go func() { _ = files.Serve(far, a.volumes()) }()
	return near, nil
}

func (a *agents) volumes() []api.Volume {
	return []api.Volume{{Here: a.dir, Path: "/v", Write: a.write}}
}

// cut ends the connections that there are.
func (a *agents) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, conn := range a.up {
		_ = conn.Close()
	}
	a.up = nil
}

func remoteOf(t *testing.T) (*remote, *agents) {
	a := &agents{dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(a.dir, "f"), []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRemote(a.open)
	t.Cleanup(func() {
		r.close()
		a.cut()
	})
	return r, a
}

// TestRemote: a connection that was lost is made anew for those who ask, and an open file
// is never of another version.
func TestRemote(t *testing.T) {
	r, a := remoteOf(t)
	f, err := r.openFile("/v/f", os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if n, err := f.readAt(b, 1); err != nil || string(b[:n]) != "irst" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	a.cut()
	if info, err := r.lstat("/v/f"); err != nil || info.Size() != 5 {
		t.Errorf("after a cut: %v, %v", info, err)
	}
	if _, err := f.readAt(b, 0); !isLost(err) {
		t.Errorf("a file that was open at the cut: %v", err)
	}
	if all, err := r.list("/v"); err != nil || len(all) != 1 {
		t.Errorf("listed %v, %v", all, err)
	}
	known := func() string {
		t.Helper()
		info, err := r.lstat("/v/f")
		if err != nil {
			t.Fatal(err)
		}
		return identityOf(info)
	}
	first := known()
	put(t, a.dir+"/f", "grown", 0o600)
	if now := known(); first == "" || now != first {
		t.Errorf("identity %q, then %q", first, now)
	}
	put(t, a.dir+"/other", "other", 0o600)
	if err := os.Rename(a.dir+"/other", a.dir+"/f"); err != nil {
		t.Fatal(err)
	}
	if now := known(); now == first {
		t.Errorf("another file has the identity %q, too", now)
	}
	if _, err := r.lstat("/v/absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if err := r.tell(func(c *sftp.Client) error { return c.Mkdir("/v/d") }); err == nil {
		t.Error("a folder was made in what is only to be read")
	} else if named, ok := namedError(err); !ok || named != syscall.EROFS {
		t.Errorf("a folder in what is only to be read: %v", err)
	}
	if _, err := r.readlink("/v/f"); err == nil {
		t.Error("a file is a link")
	}
	r.close()
	if _, err := r.lstat("/v/f"); !errors.Is(err, errClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// leave takes the agents away, or brings them back.
func (a *agents) leave(away bool) {
	a.mu.Lock()
	a.away = away
	a.mu.Unlock()
	a.cut()
}

// TestAway: questions wait for a server that comes back, a minute at most, and say why they
// have failed; a server that refuses is not waited for.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, a := remoteOf(t)
		if _, err := r.lstat("/v/f"); err != nil {
			t.Fatal(err)
		}
		a.leave(true)
		begin := time.Now()
		time.AfterFunc(30*time.Second, func() { a.leave(false) })
		var asked sync.WaitGroup
		for range 5 {
			asked.Go(func() {
				info, err := r.lstat("/v/f")
				if took := time.Since(begin); err != nil || info.Size() != 5 || took > 32*time.Second {
					t.Errorf("after %s: %v, %v", took, info, err)
				}
			})
		}
		asked.Go(func() {
			if o, err := r.openFile("/v/f", os.O_RDONLY); err != nil {
				t.Error(err)
			} else {
				o.close()
			}
		})
		asked.Wait()

		a.leave(true)
		begin = time.Now()
		_, err := r.lstat("/v/f")
		if took := time.Since(begin); !errors.Is(err, errLate) || !strings.Contains(err.Error(), "nobody is there") || took != askLimit {
			t.Errorf("nobody is there: %v after %s", err, took)
		}
		begin = time.Now()
		if _, err := r.get(); err == nil || time.Since(begin) > 0 {
			t.Errorf("one try: %v after %s", err, time.Since(begin))
		}
		r.open = func(context.Context) (io.ReadWriteCloser, error) {
			return nil, fmt.Errorf("an agent: %w", &tunnel.RefusedError{Message: "no volumes"})
		}
		if _, err := r.lstat("/v/f"); err == nil || !strings.Contains(err.Error(), "no volumes") || time.Since(begin) > 0 {
			t.Errorf("refused: %v after %s", err, time.Since(begin))
		}
	})
}

// TestDialsAreShared: those who wait for a server that does not answer wait together.
func TestDialsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int32
		r := newRemote(func(ctx context.Context) (io.ReadWriteCloser, error) {
			dials.Add(1)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		defer r.close()
		begin := time.Now()
		var asked sync.WaitGroup
		for range 5 {
			asked.Go(func() {
				_, err := r.lstat("/")
				if took := time.Since(begin); !errors.Is(err, errLate) || !strings.Contains(err.Error(), dialLimit.String()) || took != askLimit {
					t.Errorf("%v after %s", err, took)
				}
			})
		}
		asked.Wait()
		if n := dials.Load(); n > int32(askLimit/dialLimit) {
			t.Errorf("%d dials", n)
		}
	})
}

// TestSilentConnection: a server that takes a connection and says nothing is given up.
func TestSilentConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, a := remoteOf(t)
		if _, err := r.lstat("/v/f"); err != nil {
			t.Fatal(err)
		}
		serve := r.open
		first := true
		r.open = func(ctx context.Context) (io.ReadWriteCloser, error) {
			if !first {
				return serve(ctx)
			}
			first = false
			near, far := net.Pipe()
			context.AfterFunc(ctx, func() { _ = far.Close() })
			return near, nil
		}
		a.cut()
		begin := time.Now()
		if _, err := r.lstat("/v/f"); err != nil || time.Since(begin) > dialLimit+redialPause {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}

// TestCloseWhileDialing: who closes waits for no server.
func TestCloseWhileDialing(t *testing.T) {
	dials := make(chan struct{})
	r := newRemote(func(ctx context.Context) (io.ReadWriteCloser, error) {
		close(dials)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	})
	asked := make(chan error)
	go func() {
		_, err := r.lstat("/")
		asked <- err
	}()
	<-dials
	r.close()
	if err := <-asked; !errors.Is(err, errClosed) {
		t.Errorf("who asked is told %v", err)
	}
}

func TestRecent(t *testing.T) {
	r, _ := remoteOf(t)
	all, err := r.list("/v")
	if err != nil {
		t.Fatal(err)
	}
	var seen recent
	if seen.get("/v/f") != nil {
		t.Error("known before")
	}
	seen.put("/v", all)
	if info := seen.get("/v/f"); info == nil || info.Size() != 5 {
		t.Errorf("known: %v", info)
	}
	if seen.get("/f") != nil || seen.get("/v") != nil {
		t.Error("more is known than was listed")
	}
}

func TestCheckDir(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{"": false, "f": false, "new": true, "no/new": false} {
		if err := CheckDir(filepath.Join(dir, name)); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
