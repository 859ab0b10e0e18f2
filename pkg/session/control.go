package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// idleLimit is how long a session with neither network nor intercepts stays
// before it ends by itself.
const idleLimit = 5 * time.Second

// shutdownLimit bounds how long Serve waits for answers in flight at its end.
const shutdownLimit = 5 * time.Second

// Serve answers the commands of this user on the control socket until Quit,
// the end of ctx, or until there has been nothing to do for a while. The
// session is closed when it returns.
func (s *Session) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &control{session: s, cancel: cancel}
	c.idle = time.AfterFunc(idleLimit, c.expire)
	defer c.idle.Stop()
	server := &http.Server{
		Handler:           c.routes(),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	closeErr := s.Close(context.WithoutCancel(ctx), nil)
	stop, stopCancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer stopCancel()
	if shutErr := server.Shutdown(stop); shutErr != nil {
		_ = server.Close()
	}
	if err == nil {
		err = <-failed
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, closeErr)
}

// control maps requests on the socket to calls of the session.
type control struct {
	session *Session
	cancel  context.CancelFunc

	mu     sync.Mutex
	busy   int
	ending bool // nothing is begun any more
	idle   *time.Timer
}

func (c *control) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(c.session.Status())
	})
	mux.HandleFunc("POST /stay", func(w http.ResponseWriter, _ *http.Request) {
		if !c.begin() {
			http.Error(w, "the session is ending", http.StatusServiceUnavailable)
			return
		}
		c.end()
	})
	mux.HandleFunc("POST /connect", c.operation(func(ctx context.Context, r *http.Request, p Progress) (Event, error) {
		var req ConnectSpec
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			return Event{}, fmt.Errorf("read request: %w", err)
		}
		if err := c.session.Connect(ctx, req, p); err != nil {
			return Event{}, err
		}
		status := c.session.Status()
		return Event{Status: &status}, nil
	}))
	mux.HandleFunc("POST /intercepts", c.operation(func(ctx context.Context, r *http.Request, p Progress) (Event, error) {
		var spec InterceptSpec
		if err := json.NewDecoder(r.Body).Decode(&spec); err != nil {
			return Event{}, fmt.Errorf("read request: %w", err)
		}
		status, err := c.session.Intercept(ctx, spec, p)
		if err != nil {
			return Event{}, err
		}
		last := Event{Intercept: &status}
		if spec.WithEnv {
			env, missing, err := c.session.Env(ctx, status.ID)
			if err != nil {
				return Event{}, errors.Join(err, c.session.Leave(context.WithoutCancel(ctx), LeaveSpec{Workload: status.ID}, p))
			}
			if len(missing) > 0 {
				p.warn(fmt.Sprintf("of the container's environment, these could not be had: %s", strings.Join(missing, ", ")))
			}
			last.Env = env
		}
		if !spec.Hold {
			return last, nil
		}
		// The intercept lives as long as the command that asked for it.
		p.emit(last)
		select {
		case <-c.session.Held(status.ID):
			return Event{}, nil
		case <-ctx.Done():
			return Event{}, c.session.Leave(context.WithoutCancel(ctx), LeaveSpec{Workload: status.ID}, nil)
		}
	}))
	mux.HandleFunc("POST /leave", c.operation(func(ctx context.Context, r *http.Request, p Progress) (Event, error) {
		var spec LeaveSpec
		if err := json.NewDecoder(r.Body).Decode(&spec); err != nil {
			return Event{}, fmt.Errorf("read request: %w", err)
		}
		return Event{}, c.session.Leave(context.WithoutCancel(ctx), spec, p)
	}))
	mux.HandleFunc("POST /quit", c.operation(func(ctx context.Context, _ *http.Request, p Progress) (Event, error) {
		err := c.session.Close(context.WithoutCancel(ctx), p)
		c.finish()
		return Event{}, err
	}))
	return mux
}

// operation runs f with its progress written as JSON lines; the last line has
// End or Error set. f's ctx ends when the asking command goes away.
func (c *control) operation(f func(context.Context, *http.Request, Progress) (Event, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !c.begin() {
			http.Error(w, "the session is ending", http.StatusServiceUnavailable)
			return
		}
		defer c.end()
		w.Header().Set("Content-Type", "application/x-ndjson")
		var mu sync.Mutex
		encoder := json.NewEncoder(w)
		write := func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			_ = encoder.Encode(e)
			_ = http.NewResponseController(w).Flush()
		}
		last, err := f(r.Context(), r, write)
		last.End = true
		last.Error = NewFailure(err)
		if err != nil {
			c.session.log.Warn("operation failed", "path", r.URL.Path, "err", err)
		}
		write(last)
	}
}

// begin keeps the session from ending for lack of work until end; false: it is
// ending already.
func (c *control) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return false
	}
	c.busy++
	c.idle.Stop()
	return true
}

func (c *control) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy--
	if c.busy == 0 && c.session.unused() {
		c.idle.Reset(idleLimit)
	}
}

// expire ends the session, unless something has been begun just now.
func (c *control) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy == 0 {
		c.ending = true
		c.cancel()
	}
}

// finish ends the session.
func (c *control) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	c.cancel()
}

// lockLimit is how long a session that is ending may keep its successor waiting.
const lockLimit = shutdownLimit + 2*time.Second

// lockFolder waits for the lock while its holder is ending.
func lockFolder(dir string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), lockLimit)
	defer cancel()
	for {
		unlock, err := lock(lockFile(dir))
		if err == nil {
			return unlock, nil
		}
		if NewClient(dir).Stay(ctx) == nil || ctx.Err() != nil {
			return nil, fmt.Errorf("another session is running here: %w", err)
		}
		select {
		case <-time.After(lockEvery):
		case <-ctx.Done():
		}
	}
}

const lockEvery = 50 * time.Millisecond

// ListenControl opens the control socket in a session's folder, which it makes.
// It fails if a session is running there. The returned func removes the socket
// and gives up the folder's lock.
func ListenControl(dir string) (net.Listener, func(), error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the session's folder: %w", err)
	}
	unlock, err := lockFolder(dir)
	if err != nil {
		return nil, nil, err
	}
	if err := os.WriteFile(pidFile(dir), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		unlock()
		return nil, nil, fmt.Errorf("write the session's process id: %w", err)
	}
	_ = os.Remove(controlSocket(dir))
	l, err := net.Listen("unix", controlSocket(dir))
	if err != nil {
		unlock()
		return nil, nil, fmt.Errorf("open the control socket: %w", err)
	}
	return l, func() {
		_ = l.Close()
		_ = os.Remove(controlSocket(dir))
		_ = os.Remove(pidFile(dir))
		unlock()
	}, nil
}
