package control

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeSession has nothing to do. It counts what it is asked for.
type fakeSession struct {
	mu    sync.Mutex
	calls map[string]int
	ended chan struct{} // of the intercept
}

func (f *fakeSession) called(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[name]++
}

func (f *fakeSession) count(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[name]
}

func (f *fakeSession) Status() api.Status { return api.Status{ID: "fake"} }
func (f *fakeSession) Unused() bool       { return true }

func (f *fakeSession) Connect(context.Context, api.ConnectSpec, api.Progress) error {
	f.called("connect")
	return nil
}

func (f *fakeSession) Intercept(context.Context, api.InterceptSpec, api.Progress) ([]api.InterceptStatus, error) {
	f.called("intercept")
	return []api.InterceptStatus{{ID: "id"}}, nil
}

func (f *fakeSession) Env(context.Context, string) (env, missing []string, err error) {
	return []string{"A=1"}, []string{"B"}, nil
}

func (f *fakeSession) Ended(string) <-chan struct{} { return f.ended }

func (f *fakeSession) Leave(_ context.Context, spec api.LeaveSpec, _ api.Progress) error {
	f.called("leave " + strings.Join(spec.IDs, ","))
	return nil
}

func (f *fakeSession) Close(context.Context, api.Progress) error {
	f.called("close")
	return nil
}

// serve serves a fake session in a folder of its own.
func serve(t *testing.T) (dir string, f *fakeSession, s *server, stop func()) {
	t.Helper()
	dir = t.TempDir()
	l, release, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	f = &fakeSession{ended: make(chan struct{})}
	s = newServer(f, slog.New(slog.DiscardHandler), func() {})
	server := &http.Server{Handler: s.routes(), ReadHeaderTimeout: time.Second}
	served := make(chan error)
	go func() { served <- server.Serve(l) }()
	stop = sync.OnceFunc(func() {
		s.life.idle.Stop()
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		release()
	})
	t.Cleanup(stop)
	return dir, f, s, stop
}

func TestExpireSparesWhatHasBegun(t *testing.T) {
	dir, _, s, _ := serve(t)
	ended := 0
	s.life.end = func() { ended++ }
	if !s.life.begin() {
		t.Fatal("a session with nothing to do is taken for one that ends")
	}
	s.life.expire()
	s.life.done()
	if err := NewClient(dir).Stay(t.Context()); err != nil || ended > 0 {
		t.Errorf("after an operation: ended %d times, stay: %v", ended, err)
	}
	s.life.expire()
	if err := NewClient(dir).Stay(t.Context()); !errors.Is(err, ErrNotRunning) || ended != 1 {
		t.Errorf("after the end: ended %d times, stay: %v", ended, err)
	}
	if err := NewClient(dir).Leave(t.Context(), api.LeaveSpec{All: true}, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("leave after the end: %v", err)
	}
}

func TestListenWaitsForAnEndingSession(t *testing.T) {
	dir, _, s, stop := serve(t)
	if _, _, err := Listen(dir); err == nil {
		t.Error("two sessions in one folder")
	}
	s.life.finish()
	successor := make(chan error)
	go func() {
		l, release, err := Listen(dir)
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

// Serve ends when it is asked to quit, and has closed the session then.
func TestQuit(t *testing.T) {
	dir := t.TempDir()
	l, release, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeSession{}
	served := make(chan error, 1)
	go func() { served <- Serve(t.Context(), l, f, slog.New(slog.DiscardHandler)) }()
	if err := NewClient(dir).Quit(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil || f.count("close") == 0 {
		t.Errorf("served: %v, closed %d times", err, f.count("close"))
	}
	release()
	if _, err := NewClient(dir).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("status after the end: %v", err)
	}
}

// A held intercept lives as long as the command that asked for it, and ends it
// when it ends by itself.
func TestHold(t *testing.T) {
	dir, f, _, stop := serve(t)
	spec := api.InterceptSpec{Workload: "back", Hold: true, WithEnv: true}
	hold := func(ctx context.Context) (started chan api.Event, held chan error) {
		started, held = make(chan api.Event, 1), make(chan error, 1)
		go func() {
			_, err := NewClient(dir).Intercept(ctx, spec, func(e api.Event) {
				if len(e.Intercepts) > 0 {
					started <- e
				}
			})
			held <- err
		}()
		return started, held
	}

	ctx, release := context.WithCancel(t.Context())
	started, held := hold(ctx)
	if e := <-started; e.Intercepts[0].ID != "id" || len(e.Env) != 1 {
		t.Errorf("started with %+v", e)
	}
	release()
	if err := <-held; !errors.Is(err, context.Canceled) {
		t.Errorf("released: %v", err)
	}

	started, held = hold(t.Context())
	<-started
	close(f.ended)
	if err := <-held; err != nil {
		t.Errorf("an intercept that has ended: %v", err)
	}
	stop()
	if n := f.count("leave id"); n != 1 {
		t.Errorf("left %d times, want once, for the command that went away", n)
	}
}
