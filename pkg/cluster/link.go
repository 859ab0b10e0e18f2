package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

const (
	// linkDialTimeout bounds one attempt to reach an agent. A port-forward
	// takes tens of milliseconds; a busy node takes longer.
	linkDialTimeout = 5 * time.Second
	// The wait between attempts grows by a quarter, so that an agent that is
	// starting is reached soon after it listens, and one that is away is not
	// dialled all the time.
	linkBackoffFirst = 50 * time.Millisecond
	linkBackoffLast  = time.Second
)

// LinkConfig says which agent a Link is to, and what it serves.
type LinkConfig struct {
	Pod  string
	Port uint16
	Key  []byte
	// Use tells several links of one Cluster to the same agent apart.
	Use string
	// MinLanes is how many lanes the tunnel has at least; 0 is the tunnel's
	// default.
	MinLanes int
	// Serve is called for each tunnel that comes up, and must return when that
	// tunnel or ctx has ended. The Link closes the tunnel then. If it is nil,
	// every flow that the agent opens is refused.
	Serve func(ctx context.Context, t *tunnel.Tunnel)
	// Ended, if set, is called after an attempt that failed. It returns why the
	// agent cannot come back, nil if it may.
	Ended func(ctx context.Context) error
}

// Link keeps a tunnel to one agent up for as long as the agent's pod exists. The
// tunnel survives the loss of its lanes; when the agent does not know it any
// more, the Link dials another. Run makes it work; the other methods may be
// called concurrently.
type Link struct {
	cfg    LinkConfig
	dial   func(context.Context) (net.Conn, error)
	tunnel tunnel.Config
	log    *slog.Logger

	mu      sync.Mutex
	current *tunnel.Tunnel
	changed chan struct{} // closed at the next change of current or ended
	lastErr error
	ended   bool
}

// NewLink returns a link to an agent. It does nothing before Run. The links of
// one Cluster share its lane limit.
func (c *Cluster) NewLink(cfg LinkConfig) *Link {
	if cfg.Serve == nil {
		cfg.Serve = refuseAll
	}
	session := c.cfg.Owner.Session
	if cfg.Use != "" {
		session += "-" + cfg.Use
	}
	l := &Link{
		cfg: cfg,
		dial: func(ctx context.Context) (net.Conn, error) {
			return c.DialAgent(ctx, cfg.Pod, cfg.Port)
		},
		log:     c.cfg.Log.With("pod", cfg.Pod),
		changed: make(chan struct{}),
	}
	l.tunnel = tunnel.Config{
		Key: cfg.Key, Session: session, MinLanes: cfg.MinLanes, Lanes: c.lanes,
		Final: l.final, Log: c.cfg.Log,
	}
	return l
}

// final returns why an agent that was not reached cannot come back: its pod is
// gone, or it does not accept our key. It returns nil if the agent may come back.
// A refusal by the API server is no reason: one that has just been started
// forbids everything for a moment.
func (l *Link) final(ctx context.Context, err error) error {
	status := rootStatus(err)
	switch {
	// A kubelet that has just been started does not know its pods. It answers
	// 404 too, but not about a pod.
	case apierrors.IsNotFound(status) && kindOf(status) == "pods",
		errors.Is(err, tunnel.ErrUnauthenticated), errors.Is(err, tunnel.ErrVersion):
		return err
	case l.cfg.Ended != nil:
		if ended := l.cfg.Ended(ctx); ended != nil && ctx.Err() == nil {
			return ended
		}
	}
	return nil
}

// Run keeps the tunnel up. It returns when ctx ends, with its cause, or when the
// agent cannot come back, with the reason. It is called once.
func (l *Link) Run(ctx context.Context) error {
	backoff := linkBackoffFirst
	for {
		err := l.once(ctx)
		switch {
		case ctx.Err() != nil:
			l.set(nil, context.Cause(ctx), true)
			return context.Cause(ctx)
		case err == nil:
			backoff = linkBackoffFirst
			continue
		}
		if final := l.final(ctx, err); final != nil {
			l.set(nil, final, true)
			return final
		}
		l.set(nil, err, false)
		l.log.Debug("agent not reached", "err", err)
		select {
		case <-time.After(backoff/2 + rand.N(backoff)):
		case <-ctx.Done():
		}
		backoff = min(backoff+backoff/4, linkBackoffLast)
	}
}

// once dials a tunnel and serves it until it dies. The error is that of the
// attempt; a tunnel that was up and died is no error.
func (l *Link) once(ctx context.Context) error {
	dialCtx, cancel := context.WithTimeoutCause(ctx, linkDialTimeout,
		fmt.Errorf("agent in pod %s did not answer within %s", l.cfg.Pod, linkDialTimeout))
	t, err := tunnel.Dial(dialCtx, l.dial, l.tunnel)
	cancel()
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }()
	l.set(t, nil, false)
	l.log.Info("tunnel up")
	l.cfg.Serve(ctx, t)
	l.set(nil, t.Err(), false)
	l.log.Info("tunnel down", "err", t.Err())
	return nil
}

func (l *Link) set(t *tunnel.Tunnel, err error, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current, l.lastErr, l.ended = t, err, ended
	close(l.changed)
	l.changed = make(chan struct{})
}

// Up returns the tunnel if there is one now, else nil and why there is none.
func (l *Link) Up() (*tunnel.Tunnel, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current, l.lastErr
}

// Wait returns the tunnel as soon as there is one, or an error when ctx or the
// Link has ended.
func (l *Link) Wait(ctx context.Context) (*tunnel.Tunnel, error) {
	for {
		l.mu.Lock()
		t, err, ended, changed := l.current, l.lastErr, l.ended, l.changed
		l.mu.Unlock()
		switch {
		case t != nil:
			return t, nil
		case ended:
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if err == nil {
				err = context.Cause(ctx)
			}
			return nil, fmt.Errorf("no tunnel to pod %s: %w", l.cfg.Pod, err)
		}
	}
}

// Status sets what the Link knows of an agent's status: Up, Error, RTT and
// Lanes.
func (l *Link) Status(st *api.AgentStatus) {
	t, err := l.Up()
	switch {
	case t != nil && t.Up():
		stats := t.Stats()
		st.Up, st.RTT, st.Lanes = true, stats.RTT, stats.Lanes
	case t != nil:
		st.Error = "not reached at the moment; open connections wait"
	case err != nil:
		st.Error = err.Error()
	}
}

// refuseAll refuses every flow that the agent opens, until the tunnel ends.
func refuseAll(ctx context.Context, t *tunnel.Tunnel) {
	for {
		req, err := t.AcceptFlow(ctx)
		if err != nil {
			return
		}
		_ = req.Refuse(tunnel.Denied, "this session takes no connections here")
	}
}
