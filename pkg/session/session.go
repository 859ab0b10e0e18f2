// Package session is what one background process holds: a cluster, at most one
// network, and its intercepts. It owns the order in which they begin and end. One
// Session is one laptop in one namespace of one context; the same code runs in
// the foreground and in the background process that answers on the control
// socket (see pkg/control).
//
// Undo is always written before doing: on the laptop by the privileged helper
// (see pkg/tun/helper), in the cluster by the record on the changed object
// itself (see pkg/inject).
package session

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/connect"
	"github.com/kubectl-tele/kubectl-tele/pkg/control"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/intercept"
)

// Config says which cluster, namespace and user a session is for.
type Config struct {
	api.Identity
	// REST is the connection to the API server. New copies it.
	REST *rest.Config
	// Dir is the session's private folder.
	Dir string
	// Owner is what colleagues are told about who intercepts. New sets its
	// Session.
	Owner agent.Owner
	Log   *slog.Logger
}

var _ control.Session = (*Session)(nil)

// Session is everything that one laptop has in one namespace. Its methods may be
// called concurrently.
type Session struct {
	cfg        Config
	cluster    *cluster.Cluster
	intercepts *intercept.Intercepts
	since      time.Time

	mu         sync.Mutex
	closed     bool
	connecting bool
	network    *connect.Network // nil unless it is up
}

// New returns a session that has neither network nor intercepts. It does not
// talk to the cluster.
func New(cfg Config) (*Session, error) {
	owner := cfg.Owner
	owner.Session = cfg.ID()
	c, err := cluster.New(cluster.Config{REST: cfg.REST, Namespace: cfg.Namespace, Owner: owner, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	return &Session{cfg: cfg, cluster: c, intercepts: intercept.New(c), since: time.Now()}, nil
}

// Status returns what the session is doing now.
func (s *Session) Status() api.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := api.Status{
		ID: s.cfg.ID(), Identity: s.cfg.Identity, PID: os.Getpid(), Since: s.since,
		Log:        control.LogFile(s.cfg.Dir),
		Intercepts: s.intercepts.Status(),
	}
	if s.network != nil {
		n := s.network.Status()
		status.Network = &n
	}
	return status
}

// Unused reports whether the session has neither a network nor intercepts.
func (s *Session) Unused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.network == nil && s.intercepts.Empty()
}

var errEnding = errors.New("this session is ending")

// Connect makes the laptop part of the cluster's network. It returns when names
// answer, or undoes what it did. A session that is connected already returns at
// once, unless its helper is gone: then it connects anew.
func (s *Session) Connect(ctx context.Context, spec api.ConnectSpec, p api.Progress) error {
	old, connected, err := s.beginConnect()
	if err != nil || connected {
		return err
	}
	if old != nil {
		p.Warn("the privileged helper was gone: connecting anew")
		if err := old.Close(ctx, nil); err != nil {
			s.cluster.Log().Warn("the network without a helper was not taken down cleanly", "err", err)
		}
	}
	n := connect.New(s.cluster, connect.Config{Dir: s.cfg.Dir, Server: s.cfg.Server, Spec: spec, Shortcut: s.intercepts.DialHandler})
	err = n.Up(ctx, p)
	s.mu.Lock()
	s.connecting = false
	if err == nil && s.closed {
		err = errEnding
	}
	if err == nil {
		s.network = n
	}
	s.mu.Unlock()
	if err != nil {
		return errors.Join(err, n.Close(context.WithoutCancel(ctx), nil))
	}
	return nil
}

// beginConnect reports whether the session is connected. If it is not, the caller
// is the only one to connect, and takes down the old network if there is one.
func (s *Session) beginConnect() (old *connect.Network, connected bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, false, errEnding
	case s.connecting:
		return nil, false, errors.New("another connect is in progress")
	case s.network != nil && !s.network.Status().HelperGone:
		return nil, true, nil
	}
	old, s.network, s.connecting = s.network, nil, true
	return old, false, nil
}

// Intercept sends the traffic of workloads' ports to handlers. See
// intercept.Intercepts, as for the next three.
func (s *Session) Intercept(ctx context.Context, spec api.InterceptSpec, p api.Progress) ([]api.InterceptStatus, error) {
	return s.intercepts.Begin(ctx, spec, p)
}

// Leave ends intercepts.
func (s *Session) Leave(ctx context.Context, spec api.LeaveSpec, p api.Progress) error {
	return s.intercepts.Leave(ctx, spec, p)
}

// Ended returns a channel that is closed when there is no intercept of that ID,
// or no more.
func (s *Session) Ended(id string) <-chan struct{} { return s.intercepts.Gone(id) }

// Env returns the environment of the intercepted container.
func (s *Session) Env(ctx context.Context, id string) (env, missing []string, err error) {
	return s.intercepts.Env(ctx, id)
}

// Close takes the network down and leaves every intercept. What cannot be undone
// is in the error. It may be called again.
func (s *Session) Close(ctx context.Context, p api.Progress) error {
	s.mu.Lock()
	s.closed = true
	n := s.network
	s.network = nil
	s.mu.Unlock()

	// The network goes first: it is the user's own machine, and takes no time.
	var errs []error
	if n != nil {
		errs = append(errs, n.Close(ctx, p))
	}
	return errors.Join(append(errs, s.intercepts.Close(ctx, p))...)
}
