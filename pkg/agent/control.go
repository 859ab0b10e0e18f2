package agent

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

const (
	// maxHandshakes is how many peers may be unauthenticated at once; more
	// are closed.
	maxHandshakes    = 64
	handshakeTimeout = 5 * time.Second
)

// serveControl makes tunnels of connections until ctx ends, and returns when
// all are gone.
func (a *Agent) serveControl(ctx context.Context, l net.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	handshakes := make(chan struct{}, maxHandshakes)
	acceptAll(ctx, l, a.cfg.Log, func(lane net.Conn) {
		select {
		case handshakes <- struct{}{}:
		default:
			a.cfg.Log.Warn("too many handshakes at once: lane closed")
			_ = lane.Close()
			return
		}
		wg.Go(func() {
			t, first, err := a.handshake(ctx, lane)
			<-handshakes
			switch {
			case err != nil:
				a.cfg.Log.Debug("lane refused", "err", err)
			case first:
				a.serveTunnel(ctx, t)
			}
		})
	})
}

func (a *Agent) handshake(ctx context.Context, lane net.Conn) (t *tunnel.Tunnel, first bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	return a.tunnels.Handle(ctx, lane)
}

// serveTunnel answers a session's opens until its tunnel dies or ctx ends. A
// tunnel without a session ID is a check, not a session.
func (a *Agent) serveTunnel(ctx context.Context, t *tunnel.Tunnel) {
	log := a.cfg.Log.With("session", t.PeerSession())
	if t.PeerSession() != "" {
		a.reg.enter(t)
		defer a.reg.leave(t)
		log.Info("session connected")
		defer func() { log.Info("session gone", "err", t.Err()) }()
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = t.Close() }()
	for {
		r, err := t.AcceptFlow(ctx)
		if err != nil {
			return
		}
		wg.Add(1)
		go a.serveFlow(t, r, wg.Done)
	}
}

// acceptAll hands connections to handle until ctx ends or the listener is
// closed. It survives a lack of file descriptors.
func acceptAll(ctx context.Context, l net.Listener, log logger, handle func(net.Conn)) {
	pause := time.Duration(0)
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			handle(conn)
			continue
		case errors.Is(err, net.ErrClosed):
			return
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		log.Warn("accept failed", "addr", l.Addr().String(), "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

type logger interface{ Warn(msg string, args ...any) }
