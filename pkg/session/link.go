package session

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

	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

const (
	// linkDialTimeout bounds one attempt to reach an agent. A port-forward
	// takes tens of milliseconds; the rest is patience for a busy node.
	linkDialTimeout = 5 * time.Second
	// The wait between attempts grows by a quarter: an agent that is starting is
	// reached soon after it listens, and one that is away is not asked all the time.
	linkBackoffFirst = 50 * time.Millisecond
	linkBackoffLast  = time.Second
)

// link keeps a tunnel to one agent for as long as the agent's pod exists. The
// tunnel itself survives the loss of its lanes; another one is made when the
// agent does not know it any more.
type link struct {
	pod  string
	dial func(context.Context) (net.Conn, error)
	cfg  tunnel.Config
	// serve is called for each tunnel that comes up, and returns when that
	// tunnel has ended.
	serve func(context.Context, *tunnel.Tunnel)
	// gone, if set, is asked after an attempt that failed: it says why the
	// agent cannot come back, nil if it may.
	gone func(context.Context) error
	log  *slog.Logger

	mu      sync.Mutex
	current *tunnel.Tunnel
	changed chan struct{} // closed at the next change of current or ended
	lastErr error
	ended   bool
}

func newLink(pod string, dial func(context.Context) (net.Conn, error), cfg tunnel.Config, serve func(context.Context, *tunnel.Tunnel)) *link {
	l := &link{
		pod: pod, dial: dial, cfg: cfg, serve: serve,
		log:     cfg.Log.With("pod", pod),
		changed: make(chan struct{}),
	}
	l.cfg.Final = l.final
	return l
}

// final is why an agent that was not reached cannot come back: its pod is
// gone, or it does not accept our key. nil if it may. That the user may not
// reach it is no reason: an API server that has just been started forbids
// everything for a moment.
func (l *link) final(ctx context.Context, err error) error {
	status := rootStatus(err)
	switch {
	// A kubelet that has just been started does not know its pods: that is
	// also a 404, but not about a pod.
	case apierrors.IsNotFound(status) && kindOf(status) == "pods",
		errors.Is(err, tunnel.ErrUnauthenticated), errors.Is(err, tunnel.ErrVersion):
		return err
	case l.gone != nil:
		if goneErr := l.gone(ctx); goneErr != nil && ctx.Err() == nil {
			return goneErr
		}
	}
	return nil
}

// run returns when ctx ends (its cause) or the agent cannot come back.
func (l *link) run(ctx context.Context) error {
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

// once brings one tunnel up and serves it until it dies. The error is that of
// the attempt; a tunnel that was up and died is no error.
func (l *link) once(ctx context.Context) error {
	dialCtx, cancel := context.WithTimeoutCause(ctx, linkDialTimeout,
		fmt.Errorf("agent in pod %s did not answer within %s", l.pod, linkDialTimeout))
	t, err := tunnel.Dial(dialCtx, l.dial, l.cfg)
	cancel()
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }()
	l.set(t, nil, false)
	l.log.Info("tunnel up")
	l.serve(ctx, t)
	l.set(nil, t.Err(), false)
	l.log.Info("tunnel down", "err", t.Err())
	return nil
}

func (l *link) set(t *tunnel.Tunnel, err error, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current, l.lastErr, l.ended = t, err, ended
	close(l.changed)
	l.changed = make(chan struct{})
}

// up returns the tunnel if there is one now.
func (l *link) up() (*tunnel.Tunnel, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current, l.lastErr
}

// wait returns the tunnel as soon as there is one, or why there will be none.
func (l *link) wait(ctx context.Context) (*tunnel.Tunnel, error) {
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
			return nil, fmt.Errorf("no tunnel to pod %s: %w", l.pod, err)
		}
	}
}

// fill writes the link's part of an agent's status.
func (l *link) fill(st *AgentStatus) {
	t, err := l.up()
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
