package session

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

// ErrNotRunning says that no session answers in the folder asked for.
var ErrNotRunning = errors.New("no session is running")

// Client asks a session through its control socket. Its methods may be called
// concurrently.
type Client struct {
	dir  string
	http *http.Client
}

// NewClient makes a client for the session with this folder; it does not ask
// anything yet.
func NewClient(dir string) *Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", controlSocket(dir))
		},
		DisableKeepAlives: true,
	}
	return &Client{dir: dir, http: &http.Client{Transport: transport}}
}

// Status asks for the session's status; ErrNotRunning if there is none.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var status Status
	resp, err := c.do(ctx, http.MethodGet, "/status", nil)
	if err != nil {
		return status, err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		return status, fmt.Errorf("read the session's status: %w", err)
	}
	return status, nil
}

// Stay makes the session wait for another command, even if it has nothing else
// to live for; ErrNotRunning if there is none, or it is ending.
func (c *Client) Stay(ctx context.Context) error {
	resp, err := c.do(ctx, http.MethodPost, "/stay", nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Connect brings the session's network up.
func (c *Client) Connect(ctx context.Context, spec ConnectSpec, p Progress) (Event, error) {
	return c.operation(ctx, "/connect", spec, p)
}

// Intercept starts an intercept. With spec.Hold it returns only when ctx ends
// or the session does; the started intercept is the event with Intercept set.
func (c *Client) Intercept(ctx context.Context, spec InterceptSpec, p Progress) (Event, error) {
	return c.operation(ctx, "/intercepts", spec, p)
}

// Leave ends an intercept, or all of them.
func (c *Client) Leave(ctx context.Context, spec LeaveSpec, p Progress) error {
	_, err := c.operation(ctx, "/leave", spec, p)
	return err
}

// Quit ends the session and returns when it has undone what it made.
func (c *Client) Quit(ctx context.Context, p Progress) error {
	_, err := c.operation(ctx, "/quit", struct{}{}, p)
	return err
}

// killLimit bounds the end of a process that was killed.
const killLimit = 5 * time.Second

// Kill ends the session's process without asking it, and returns when it is
// gone; ErrNotRunning if there is none. Its helper puts this machine back, and
// its agents give the traffic back.
func (c *Client) Kill(ctx context.Context) error {
	unlock, err := lock(lockFile(c.dir))
	if err == nil {
		unlock()
		return ErrNotRunning
	}
	text, err := os.ReadFile(pidFile(c.dir))
	if err != nil {
		return fmt.Errorf("read the session's process id: %w", err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil || pid <= 1 {
		return fmt.Errorf("%s holds no process id", pidFile(c.dir))
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return fmt.Errorf("find process %d: %w", pid, err)
	}
	if err := process.Kill(); err != nil {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, killLimit, fmt.Errorf("process %d is still there after %s", pid, killLimit))
	defer cancel()
	for {
		if unlock, err := lock(lockFile(c.dir)); err == nil {
			unlock()
			return nil
		}
		select {
		case <-time.After(lockEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// operation posts a request and hands its events to p; the last is returned.
func (c *Client) operation(ctx context.Context, path string, body any, p Progress) (Event, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return Event{}, err
	}
	resp, err := c.do(ctx, http.MethodPost, path, data)
	if err != nil {
		return Event{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if ctx.Err() != nil {
				return Event{}, context.Cause(ctx)
			}
			if errors.Is(err, io.EOF) {
				err = errors.New("it ended")
			}
			return Event{}, fmt.Errorf("session %s: %w", c.dir, err)
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return Event{}, fmt.Errorf("read the session's progress: %w", err)
		}
		switch {
		case e.Error != nil:
			return e, e.Error
		case e.End:
			return e, nil
		}
		p.emit(e)
	}
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://session"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	var op *net.OpError
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, os.ErrNotExist):
		return nil, ErrNotRunning
	case err != nil:
		return nil, fmt.Errorf("ask session %s: %w", c.dir, err)
	case resp.StatusCode == http.StatusServiceUnavailable:
		_ = resp.Body.Close()
		return nil, ErrNotRunning
	case resp.StatusCode != http.StatusOK:
		_ = resp.Body.Close()
		return nil, fmt.Errorf("session %s answered %s to %s", c.dir, resp.Status, path)
	}
	return resp, nil
}
