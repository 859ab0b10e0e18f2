package agent

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// route lets the rules decide on each request of a connection.
func (c *capture) route(ctx context.Context, client *net.TCPConn, done func()) {
	defer done()
	log := c.agent.cfg.Log
	release := sync.OnceFunc(func() { c.routed.Add(-1) })
	defer release()
	if c.routed.Add(1) > int64(c.agent.cfg.MaxRouted) {
		release()
		c.opaque.count(router.TooMany)
		c.forwardWhole(ctx, client)
		return
	}
	if flow := c.offerProbe(ctx, client); flow != nil {
		_, _ = splice.Splice(ctx, flow, client)
		return
	}
	err := router.Serve(ctx, client, router.Config{
		Pick: func(r router.Subject) router.Taker { return c.pick(r, client) },
		DialApp: func(ctx context.Context) (splice.Conn, error) {
			app, err := c.dialApp(ctx, client)
			if err != nil {
				return nil, err
			}
			return app, nil
		},
		Opaque: func(why router.Opacity) {
			release()
			c.opaque.count(why)
		},
		Log: log,
	})
	if err != nil {
		log.Debug("connection ended", "err", err)
	}
}

// pick returns the first live session whose rule is about a request.
func (c *capture) pick(r router.Subject, client *net.TCPConn) router.Taker {
	for _, claim := range c.agent.reg.claims(c.App) {
		if claim.alive() && r.Matches(claim.match) {
			return taker{c, claim, client}
		}
	}
	return nil
}

// offerProbe offers a connection that may be a probe to each session, which alone
// knows; nil if it is none.
func (c *capture) offerProbe(ctx context.Context, client *net.TCPConn) splice.Conn {
	mss := announced(client)
	if !slices.ContainsFunc(api.ProbeMarks(), func(mark uint16) bool { return api.ProbeRequest{MSS: mark}.Announced(mss) }) {
		return nil
	}
	for _, claim := range c.agent.reg.claims(c.App) {
		if !claim.alive() {
			continue
		}
		if flow, err := c.offer(ctx, claim, client, true); err == nil {
			return flow
		}
	}
	return nil
}

// taker is a session that takes requests of one client.
type taker struct {
	capture *capture
	claim   *claim
	client  *net.TCPConn
}

// Open implements router.Taker.
func (t taker) Open(ctx context.Context) (splice.Conn, error) {
	flow, err := t.capture.offer(ctx, t.claim, t.client, false)
	if err != nil {
		return nil, err
	}
	return flow, nil
}

// Ended implements router.Taker.
func (t taker) Ended() <-chan struct{} { return t.claim.ended.Done() }

// Taken implements router.Taker.
func (t taker) Taken() { t.claim.taken.Add(1) }

// opacities counts the connections that could not be looked into. The zero value
// has none.
type opacities struct {
	mu  sync.Mutex
	all map[string]int64
}

func (o *opacities) count(why router.Opacity) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil {
		o.all = map[string]int64{}
	}
	o.all[string(why)]++
}

func (o *opacities) counts() map[string]int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.all)
}
