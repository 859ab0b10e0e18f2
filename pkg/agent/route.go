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
	log := c.agent.cfg.Log
	release := sync.OnceFunc(func() { c.routed.Add(-1) })
	if c.routed.Add(1) > int64(c.agent.cfg.MaxRouted) {
		release()
		c.opaque.count(router.TooMany)
		c.forwardWhole(ctx, client, done)
		return
	}
	defer done()
	defer release()
	if flow := c.offerProbe(ctx, client); flow != nil {
		_, _ = splice.Splice(ctx, flow, client)
		return
	}
	first, err := c.dialApp(ctx, client)
	if err != nil {
		log.Debug("app not reached", "err", err)
		c.withoutApp(ctx, client)
		return
	}
	err = router.Serve(ctx, client, router.Config{
		Pick: func(r router.Subject) router.Taker { return c.pick(r, client) },
		DialApp: func(ctx context.Context) (splice.Conn, error) {
			if app := first; app != nil {
				first = nil
				return app, nil
			}
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
		Mirrors:  func(r router.Subject) []router.Mirror { return c.mirrors(r, client) },
		Mirrored: c.agent.mirrored,
		Watch:    func() func(router.Exchange) { return c.watch(client, nil) },
		Held:     c.agent.held,
		Log:      log,
	})
	if err != nil {
		log.Debug("connection ended", "err", err)
	}
}

// withoutApp serves a connection that cannot be looked into, since the app, whose answers that
// takes, is not there: who takes all traffic has it whole.
func (c *capture) withoutApp(ctx context.Context, client *net.TCPConn) {
	if flow, _ := c.offerWhole(ctx, client); flow != nil {
		_, _ = splice.Splice(ctx, flow, client)
		return
	}
	_ = splice.Reset(client)
}

// pick returns the first live session whose rule is about a request.
func (c *capture) pick(r router.Subject, client *net.TCPConn) router.Taker {
	for _, claim := range c.agent.reg.claims(c.Port()) {
		if claim.alive() && r.Matches(claim.match) {
			return taker{c, claim, client}
		}
	}
	return nil
}

// mirrors returns the live sessions that get a copy of a request.
func (c *capture) mirrors(r router.Subject, client *net.TCPConn) (all []router.Mirror) {
	for _, claim := range c.agent.reg.copies(c.Port()) {
		if !claim.alive() || !r.Matches(claim.match) {
			continue
		}
		if to, ok := claim.mirror(taker{c, claim, client}); ok {
			all = append(all, to)
		}
	}
	return all
}

// readAlong returns the connection of a client that goes to one place as a whole, for
// one who copies it, where somebody gets a copy of it or sees it pass. end is nil if
// nobody does, or too many are read along already.
func (c *capture) readAlong(ctx context.Context, client *net.TCPConn, to *claim) (conn splice.Conn, end func()) {
	seen := c.watch(client, to)
	var copies []*claim
	for _, claim := range c.agent.reg.copies(c.Port()) {
		if claim.alive() && claim.match.All() {
			copies = append(copies, claim)
		}
	}
	if seen == nil && len(copies) == 0 {
		return nil, nil
	}
	if c.along.Add(1) > maxReadAlong {
		c.along.Add(-1)
		for _, claim := range copies {
			claim.dropped.Add(1)
		}
		return nil, nil
	}
	conn = client
	if seen != nil {
		conn = router.NewTap(0, func(e router.Exchange, _, _ *router.Message) { seen(e) }).Client(conn)
	}
	var copiers []*router.Copier
	for _, claim := range copies {
		if to, ok := claim.mirror(taker{c, claim, client}); ok {
			copiers = append(copiers, router.NewCopier(ctx, to, c.agent.mirrored, nil))
		}
	}
	if len(copiers) > 0 {
		conn = router.Copied(conn, copiers)
	}
	return conn, func() { c.along.Add(-1) }
}

// offerProbe offers a connection that may be a probe to each session, which alone
// knows; nil if it is none.
func (c *capture) offerProbe(ctx context.Context, client *net.TCPConn) splice.Conn {
	mss := announced(client)
	if !slices.ContainsFunc(api.ProbeMarks(), func(mark uint16) bool { return api.ProbeRequest{MSS: mark}.Announced(mss) }) {
		return nil
	}
	for _, claim := range slices.Concat(c.agent.reg.claims(c.Port()), c.agent.reg.copies(c.Port())) {
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

// Refuses implements router.Taker.
func (t taker) Refuses() bool { return t.claim.refuses() }

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
