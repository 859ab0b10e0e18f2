package session

import (
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// serveControl runs a session that has nothing to do, in a folder of its own.
func serveControl(t *testing.T) (dir string, c *control, stop func()) {
	t.Helper()
	dir = t.TempDir()
	l, release, err := ListenControl(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{REST: &rest.Config{Host: "https://127.0.0.1:1"}, Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c = &control{session: s, cancel: func() {}}
	c.idle = time.AfterFunc(time.Hour, c.expire)
	server := &http.Server{Handler: c.routes(), ReadHeaderTimeout: time.Second}
	served := make(chan error)
	go func() { served <- server.Serve(l) }()
	stop = sync.OnceFunc(func() {
		c.idle.Stop()
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		release()
	})
	t.Cleanup(stop)
	return dir, c, stop
}

func TestExpireSparesWhatHasBegun(t *testing.T) {
	dir, c, _ := serveControl(t)
	ended := 0
	c.cancel = func() { ended++ }
	if !c.begin() {
		t.Fatal("a session with nothing to do is taken for one that ends")
	}
	c.expire()
	c.end()
	if err := NewClient(dir).Stay(t.Context()); err != nil || ended > 0 {
		t.Errorf("after an operation: ended %d times, stay: %v", ended, err)
	}
	c.expire()
	if err := NewClient(dir).Stay(t.Context()); !errors.Is(err, ErrNotRunning) || ended != 1 {
		t.Errorf("after the end: ended %d times, stay: %v", ended, err)
	}
	if err := NewClient(dir).Leave(t.Context(), LeaveSpec{All: true}, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("leave after the end: %v", err)
	}
}

func TestListenControlWaitsForAnEndingSession(t *testing.T) {
	dir, c, stop := serveControl(t)
	if _, _, err := ListenControl(dir); err == nil {
		t.Error("two sessions in one folder")
	}
	c.finish()
	successor := make(chan error)
	go func() {
		l, release, err := ListenControl(dir)
		if err == nil {
			_ = l.Close()
			release()
		}
		successor <- err
	}()
	select {
	case err := <-successor:
		t.Errorf("the successor did not wait: %v", err)
		return
	case <-time.After(3 * lockEvery):
	}
	stop()
	if err := <-successor; err != nil {
		t.Error(err)
	}
}
