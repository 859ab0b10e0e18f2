package tunnel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	redialFirst = 50 * time.Millisecond
	redialLast  = time.Second
	// redialLimit bounds one attempt to bring a lane up again.
	redialLimit = 5 * time.Second
)

// keepLanes keeps lane 0 up, and makes the others that a tunnel begins with.
func (t *Tunnel) keepLanes() {
	t.cfg.Lanes.take(true)
	t.wg.Go(func() { t.keep(t.allLanes()[0]) })
	t.moreLanes(t.cfg.MinLanes)
}

// moreLanes makes lanes until there are n, as far as the limit allows.
func (t *Tunnel) moreLanes(n int) {
	for len(t.allLanes()) < n && t.cfg.Lanes.take(false) {
		t.mu.Lock()
		next := t.lastLane + 1
		t.mu.Unlock()
		l := t.addLane(next)
		if l == nil {
			t.cfg.Lanes.give()
			return
		}
		t.wg.Go(func() { t.keep(l) })
	}
}

// keep keeps a lane up until the tunnel or the lane ends: it dials another
// connection when one is lost, and before one becomes too old.
func (t *Tunnel) keep(l *lane) {
	defer t.cfg.Lanes.give()
	backoff := redialFirst
	again := time.Duration(0) // after a replacement that failed
	for t.ctx.Err() == nil {
		if x := l.current(); x != nil {
			old := time.NewTimer(max(time.Until(x.since.Add(t.lifetime())), again))
			select {
			case <-t.ctx.Done():
			case <-x.gone:
			case <-old.C:
			}
			old.Stop()
		}
		if t.ctx.Err() != nil || l.over.Load() {
			return
		}
		err := t.rejoin(l)
		if err == nil {
			backoff, again = redialFirst, 0
			continue
		}
		if errors.Is(err, errRetired) {
			if err = l.onRetired(); err == nil {
				return
			}
		}
		if t.ctx.Err() != nil {
			return
		}
		t.cfg.Log.Debug("lane not brought up", "lane", l.number, "err", err)
		if l.up.Load() {
			again = redialLimit
			continue
		}
		if final := t.final(err); final != nil {
			t.fail(fmt.Errorf("%w: %w", ErrClosed, final))
			return
		}
		select {
		case <-time.After(backoff/2 + rand.N(backoff)):
		case <-t.ctx.Done():
		}
		backoff = min(2*backoff, redialLast)
	}
}

// lifetime is how long a connection carries a lane: not so long that whoever
// is on the way ends it, and not as long for all.
func (t *Tunnel) lifetime() time.Duration {
	return t.cfg.MaxLaneAge * time.Duration(80+rand.IntN(16)) / 100
}

// rejoin brings the lane up on a new connection; the former one, if it still
// works, carries it until the new one is there.
func (t *Tunnel) rejoin(l *lane) error {
	ctx, cancel := context.WithTimeoutCause(t.ctx, redialLimit, fmt.Errorf("no answer within %v", redialLimit))
	defer cancel()
	l.joining.Lock()
	defer l.joining.Unlock()
	conn, j, err := t.dialLane(ctx, clientHello{tunnel: t.id, join: true, lane: l.number}, l.release)
	if err != nil {
		return err
	}
	if err := l.attach(conn, j.frameReader, j.peerReceived); err != nil {
		return err
	}
	l.resumes.Add(1)
	t.cfg.Log.Debug("lane up", "lane", l.number)
	return nil
}

// final is why no connection can bring the tunnel back; nil: one may.
func (t *Tunnel) final(err error) error {
	if isProtocolError(err) || errors.Is(err, ErrUnauthenticated) || errors.Is(err, ErrVersion) || errors.Is(err, ErrUnknownTunnel) {
		return err
	}
	if t.cfg.Final == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(t.ctx, redialLimit)
	defer cancel()
	return t.cfg.Final(ctx, err)
}
