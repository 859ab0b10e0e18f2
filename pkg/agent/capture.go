package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// appTimeout bounds the dial to the app, which is in the same pod.
const appTimeout = 10 * time.Second

// captured is a captured port: a capture of TCP, or a udpCapture.
type captured interface {
	spec() api.Capture
	// serve takes what comes until ctx ends or close, and returns when all of it is over.
	serve(ctx context.Context)
	// close stops listening. It may be called again.
	close()
	// busy reports whether somebody would miss the capture now.
	busy() bool
	info() api.CaptureInfo
}

// captureBase is what captures of all protocols have.
type captureBase struct {
	api.Capture
	agent *Agent
	last  atomic.Int64 // when something new came, in nanoseconds after the agent's start; 0: never
}

func (c *captureBase) spec() api.Capture { return c.Capture }

// touch notes that something new comes.
func (c *captureBase) touch() { c.last.Store(int64(max(time.Since(c.agent.started), 1))) }

// idle returns since when nothing new came; ok is false if there never was anything.
func (c *captureBase) idle() (since time.Duration, ok bool) {
	last := c.last.Load()
	return time.Since(c.agent.started) - time.Duration(last), last != 0
}

func (c *captureBase) describe(active int) api.CaptureInfo {
	info := api.CaptureInfo{Capture: c.Capture, Active: active, IdleSeconds: -1, Holders: c.agent.reg.holders(c.Port())}
	if since, ok := c.idle(); ok {
		info.IdleSeconds = since.Seconds()
	}
	return info
}

// capture is one captured port of TCP. Each connection goes to the session that
// holds the port at that moment, or to the app; it stays there.
type capture struct {
	captureBase
	listener *net.TCPListener

	active atomic.Int64
	whole  atomic.Int64 // of those, what goes to the app without being looked into
	routed atomic.Int64 // of those, what is looked into
	along  atomic.Int64 // what is watched or copied as it passes whole
	opaque opacities
}

func newCapture(c api.Capture, l *net.TCPListener, a *Agent) *capture {
	return &capture{captureBase: captureBase{Capture: c, agent: a}, listener: l}
}

func (c *capture) close() { _ = c.listener.Close() }

func (c *capture) busy() bool { return c.active.Load() > 0 }

// serve takes connections until ctx ends, which resets those that are open.
func (c *capture) serve(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	acceptAll(ctx, c.listener, c.agent.cfg.Log, func(conn net.Conn) {
		c.touch()
		c.active.Add(1)
		wg.Add(1)
		go c.handle(ctx, conn.(*net.TCPConn), func() {
			c.active.Add(-1)
			wg.Done()
		})
	})
}

// handle calls done when the connection has ended; it may go on when handle returns.
func (c *capture) handle(ctx context.Context, client *net.TCPConn, done func()) {
	log := c.agent.cfg.Log
	if c.agent.reg.looks(c.Port()) {
		c.route(ctx, client, done)
		return
	}
	if len(c.agent.reg.copies(c.Port())) > 0 {
		if flow := c.offerProbe(ctx, client); flow != nil {
			defer done()
			_, _ = splice.Splice(ctx, flow, client)
			return
		}
	}
	flow, claim := c.offerWhole(ctx, client)
	if flow == nil && claim != nil { // refused
		defer done()
		_ = splice.Reset(client)
		return
	}
	if flow != nil {
		if conn, end := c.readAlong(ctx, client, claim); end != nil {
			defer done()
			defer end()
			_, err := splice.Splice(ctx, flow, conn)
			log.Debug("intercepted connection ended", "err", err)
			return
		}
		c.agent.join(ctx, flow, client, func(err error) {
			if err != nil {
				log.Debug("intercepted connection ended", "err", err)
			}
			done()
		})
		return
	}
	c.forwardWhole(ctx, client, done)
}

// forwardWhole is a connection that goes to the app as it is. It goes on when
// forwardWhole returns.
func (c *capture) forwardWhole(ctx context.Context, client *net.TCPConn, done func()) {
	log := c.agent.cfg.Log
	c.whole.Add(1)
	end := func() {
		c.whole.Add(-1)
		done()
	}
	app, err := c.dialApp(ctx, client)
	if err != nil {
		log.Debug("app not reached", "err", err)
		_ = splice.Reset(client)
		end()
		return
	}
	if conn, endAlong := c.readAlong(ctx, client, nil); endAlong != nil {
		_, err = splice.Splice(ctx, app, conn)
		endAlong()
		if err != nil {
			log.Debug("forwarded connection ended", "err", err)
		}
		end()
		return
	}
	c.agent.forward(ctx, client, app, func(err error) {
		if err != nil {
			log.Debug("forwarded connection ended", "err", err)
		}
		end()
	})
}

// offerWhole asks the session that holds the port, if any, to take the connection.
// It returns nil if the connection is to go to the app, and the claim alone if it is
// to be refused. It reads nothing from the client.
func (c *capture) offerWhole(ctx context.Context, client *net.TCPConn) (*tunnel.Flow, *claim) {
	claim := c.agent.reg.of(c.Port())
	if claim == nil {
		return nil, nil
	}
	flow, err := c.offer(ctx, claim, client, false)
	if err != nil {
		c.agent.cfg.Log.Debug("session did not take the connection", "err", err)
		if claim.refuses() {
			return nil, claim
		}
		return nil, nil
	}
	claim.taken.Add(1)
	return flow, claim
}

// offer asks a session to take the connection, or requests of it.
func (c *capture) offer(ctx context.Context, to *claim, client *net.TCPConn, probe bool) (*tunnel.Flow, error) {
	return c.agent.offer(ctx, to, api.NetworkIntercept, api.Captured{
		Port: c.Port(), Remote: client.RemoteAddr().String(), Local: client.LocalAddr().String(), MSS: announced(client), Probe: probe,
	})
}

// offer asks a session to take what was captured.
func (a *Agent) offer(ctx context.Context, to *claim, network string, what api.Captured) (*tunnel.Flow, error) {
	meta, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.OfferTimeout)
	defer cancel()
	defer context.AfterFunc(to.ended, cancel)()
	flow, err := to.tunnel.Open(ctx, tunnel.Target{Network: network, Address: to.registration.ID, Meta: meta})
	if err != nil {
		return nil, err
	}
	if to.ended.Err() != nil {
		_ = flow.Reset() // the session has left meanwhile, and need not know of it
		return nil, errors.New("the session has left")
	}
	return flow, nil
}

// dialApp dials the app at the pod's address of the client's family, else at
// the first.
func (c *capture) dialApp(ctx context.Context, client *net.TCPConn) (*net.TCPConn, error) {
	ips := c.agent.cfg.PodIPs
	ip := ips[0]
	if local, err := netip.ParseAddrPort(client.LocalAddr().String()); err == nil {
		for _, candidate := range ips {
			if candidate.Is4() == local.Addr().Unmap().Is4() {
				ip = candidate
				break
			}
		}
	}
	d := net.Dialer{Timeout: appTimeout}
	conn, err := apart(func() (net.Conn, error) {
		return d.DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), strconv.Itoa(int(c.App))))
	})
	if err != nil {
		return nil, fmt.Errorf("dial app: %w", err)
	}
	return conn.(*net.TCPConn), nil
}

func (c *capture) info() api.CaptureInfo {
	info := c.describe(int(c.active.Load()))
	info.Whole, info.Opaque = int(c.whole.Load()), c.opaque.counts()
	return info
}
