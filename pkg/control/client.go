package control

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

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

// ErrNotRunning is returned when no session answers in the folder asked for.
var ErrNotRunning = errors.New("no session is running")

// Client asks a session through its control socket. Status and Quit work with a
// session of another version too; the other requests return a *VersionError for
// it. The methods may be called concurrently.
type Client struct {
	dir  string
	http *http.Client
}

// NewClient returns a client for the session with this folder. It does not ask
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

// Status returns the session's status; ErrNotRunning if there is none.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	var status api.Status
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

// Stay makes the session wait for another command even if it has nothing else to
// do; ErrNotRunning if there is none, or it is ending.
func (c *Client) Stay(ctx context.Context) error {
	resp, err := c.do(ctx, http.MethodPost, "/stay", nil)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if session := versionOf(resp.Header); session != api.Version {
		return &VersionError{Session: session, Command: api.Version}
	}
	return nil
}

// Connect has the session make this machine part of the cluster's network.
func (c *Client) Connect(ctx context.Context, spec api.ConnectSpec, p api.Progress) (api.Event, error) {
	return c.operation(ctx, "/connect", spec, p)
}

// Intercept has the session start intercepts. With spec.Hold it returns only
// when ctx or the session ends; p then gets the event with Intercepts set.
func (c *Client) Intercept(ctx context.Context, spec api.InterceptSpec, p api.Progress) (api.Event, error) {
	return c.operation(ctx, "/intercepts", spec, p)
}

// Leave has the session end intercepts.
func (c *Client) Leave(ctx context.Context, spec api.LeaveSpec, p api.Progress) error {
	_, err := c.operation(ctx, "/leave", spec, p)
	return err
}

// Quit ends the session and returns when it has undone what it did.
func (c *Client) Quit(ctx context.Context, p api.Progress) error {
	_, err := c.post(ctx, "/quit", struct{}{}, p)
	return err
}

// operation posts a request that a session of another version could
// misunderstand, after making sure that there is none such.
func (c *Client) operation(ctx context.Context, path string, body any, p api.Progress) (api.Event, error) {
	if err := c.Stay(ctx); err != nil {
		return api.Event{}, err
	}
	return c.post(ctx, path, body, p)
}

// post posts a request and passes its events to p, but for the last, which it
// returns.
func (c *Client) post(ctx context.Context, path string, body any, p api.Progress) (api.Event, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return api.Event{}, err
	}
	resp, err := c.do(ctx, http.MethodPost, path, data)
	if err != nil {
		return api.Event{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if ctx.Err() != nil {
				return api.Event{}, context.Cause(ctx)
			}
			if errors.Is(err, io.EOF) {
				err = errors.New("it ended")
			}
			return api.Event{}, fmt.Errorf("session %s: %w", c.dir, err)
		}
		var e api.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return api.Event{}, fmt.Errorf("read the session's progress: %w", err)
		}
		switch {
		case e.Error != nil:
			return e, e.Error
		case e.End:
			return e, nil
		}
		p.Emit(e)
	}
}

// do sends a request and returns the response, whose body the caller closes.
func (c *Client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://session"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	setVersion(req.Header)
	resp, err := c.http.Do(req)
	var op *net.OpError
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, os.ErrNotExist):
		return nil, ErrNotRunning
	case err != nil:
		return nil, fmt.Errorf("ask session %s: %w", c.dir, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusServiceUnavailable:
		return nil, ErrNotRunning
	case http.StatusUpgradeRequired:
		return nil, &VersionError{Session: versionOf(resp.Header), Command: api.Version}
	}
	return nil, fmt.Errorf("session %s answered %s to %s", c.dir, resp.Status, path)
}
