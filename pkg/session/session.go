// Package session is the composition root: it joins port-forward, tunnel, TUN,
// DNS, inject and intercept into what `connect` and `intercept` promise, and
// owns the order in which they are made and undone. One Session is one laptop
// in one namespace of one context; the same code runs in the foreground and in
// the background process that answers on the control socket.
//
// Undo is always written before doing: on the laptop by the privileged helper
// (see pkg/tun/helper), in the cluster by the record on the changed object
// itself (see pkg/inject).
package session

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// Config says which cluster, namespace and user a session is for.
type Config struct {
	Identity
	// REST is the connection to the API server; the session copies it.
	REST *rest.Config
	// Dir is the session's private folder.
	Dir string
	// Owner is what colleagues are told about who intercepts.
	Owner api.Owner
	Log   *slog.Logger
}

// maxLanes is how many lanes a session has at most, to all its agents: each is
// a connection that the API server has to carry.
const maxLanes = 32

// Session owns everything one laptop has in one namespace. Its methods may be
// called concurrently.
type Session struct {
	*Cluster
	cfg   Config
	since time.Time
	lanes *tunnel.LaneLimit

	mu         sync.Mutex
	closed     bool
	connecting bool
	network    *network
	intercepts map[string]*intercept
}

// New makes a session that has neither network nor intercepts. It does not
// talk to the cluster.
func New(cfg Config) (*Session, error) {
	cluster, err := NewCluster(cfg.REST, cfg.Namespace)
	if err != nil {
		return nil, err
	}
	cluster.log = cfg.Log
	run, err := newToken(8)
	if err != nil {
		return nil, err
	}
	// An agent must not take this run of the session for an earlier one.
	cfg.Owner.Session = cfg.ID() + "-" + run
	return &Session{
		Cluster: cluster, cfg: cfg, since: time.Now(), lanes: tunnel.NewLaneLimit(maxLanes),
		intercepts: map[string]*intercept{},
	}, nil
}

// Status returns a copy of what the session is doing now.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := Status{
		ID: s.cfg.ID(), Identity: s.cfg.Identity, PID: os.Getpid(), Since: s.since,
		Log:        LogFile(s.cfg.Dir),
		Intercepts: []InterceptStatus{},
	}
	if s.network != nil {
		n := s.network.status()
		status.Network = &n
	}
	for _, i := range s.sorted() {
		status.Intercepts = append(status.Intercepts, i.status())
	}
	return status
}

// unused says whether the session has nothing to live for.
func (s *Session) unused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.network == nil && len(s.intercepts) == 0
}

// closeLimit bounds Close: two rollouts and their margins.
const closeLimit = 10 * time.Minute

// Close leaves every intercept and takes the network down. What cannot be
// undone is in the error. It may be called again.
func (s *Session) Close(ctx context.Context, p Progress) error {
	ctx, cancel := context.WithTimeoutCause(ctx, closeLimit, fmt.Errorf("could not undo everything within %s", closeLimit))
	defer cancel()
	s.mu.Lock()
	s.closed = true
	n := s.network
	s.network = nil
	intercepts := s.sorted()
	s.mu.Unlock()

	// The network goes first: it is the user's own machine, and takes no time.
	var errs []error
	if n != nil {
		errs = append(errs, n.close(ctx, p))
	}
	results := make(chan error)
	for _, i := range intercepts {
		go func() { results <- s.leave(ctx, i, p) }()
	}
	for range intercepts {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// link makes the link to the agent in a pod; use distinguishes several links of
// this session to the same agent.
func (s *Session) link(pod string, port uint16, key []byte, use string, serve func(context.Context, *tunnel.Tunnel)) *link {
	dial := func(ctx context.Context) (net.Conn, error) {
		return s.dialAgent(ctx, pod, port)
	}
	cfg := tunnel.Config{Key: key, Session: s.cfg.Owner.Session + "-" + use, Lanes: s.lanes, Log: s.log}
	return newLink(pod, dial, cfg, serve)
}

// newToken returns n random bytes in hex.
func newToken(n int) (string, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make a random token: %w", err)
	}
	return hex.EncodeToString(b), nil
}
