package agent

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

const (
	// readAgain is how long after an error of a socket it is read again.
	readAgain = 100 * time.Millisecond
	// refusing is how long a socket is closed at least after the app has refused a datagram:
	// clients are told by ICMP meanwhile, as the app's own port would.
	refusing = 200 * time.Millisecond
)

// udpCapture is one captured port of UDP. What one address and port of a client sends is
// an association, which goes to the session that holds the port, or to the app. It moves
// as soon as the holder changes: the datagrams that come then begin a new one, and answers
// of the old one are passed on for a moment.
type udpCapture struct {
	captureBase
	// sockets are one for each of the pod's addresses: answers come from the one that was
	// asked.
	sockets []*net.UDPConn // guarded by mu

	mu     sync.Mutex
	closed bool
	all    map[associationKey]*association
	used   list.List // of *association; the one at rest for the longest is last
	wg     sync.WaitGroup
}

type associationKey struct {
	socket *net.UDPConn
	client netip.AddrPort
}

// listenUDP listens on the capture's port, or if that is 0 on any, the same at all of the
// pod's addresses.
func listenUDP(c api.Capture, a *Agent) (captured, error) {
	u := &udpCapture{captureBase: captureBase{Capture: c, agent: a}, all: map[associationKey]*association{}}
	for _, ip := range a.cfg.PodIPs {
		s, err := u.listen(ip)
		if err != nil {
			u.close()
			return nil, err
		}
		u.Listen = portOf(s.LocalAddr())
		u.sockets = append(u.sockets, s)
	}
	return u, nil
}

func (c *udpCapture) listen(ip netip.Addr) (*net.UDPConn, error) {
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, c.Listen)))
}

func (c *udpCapture) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, s := range c.sockets {
		_ = s.Close()
	}
}

// busy reports whether a datagram came lately, whose sender may still wait, or go on, and
// whom there is somebody to answer.
func (c *udpCapture) busy() bool {
	since, ok := c.idle()
	return ok && since < 10*c.agent.cfg.DrainPoll && c.answered()
}

// answered reports whether a session or the app may answer datagrams.
func (c *udpCapture) answered() bool {
	bound, known := udpBound(c.App)
	return bound || !known || c.agent.reg.of(c.Port()) != nil
}

func (c *udpCapture) info() api.CaptureInfo {
	c.mu.Lock()
	active := len(c.all)
	c.mu.Unlock()
	return c.describe(active)
}

// serve takes datagrams until the sockets are closed or ctx ends, which ends the
// associations.
func (c *udpCapture) serve(ctx context.Context) {
	defer c.wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, c.close)()
	var reading sync.WaitGroup
	for i, ip := range c.agent.cfg.PodIPs {
		reading.Go(func() {
			for s := c.socket(i, nil); s != nil; s = c.again(ctx, i, ip) {
				c.read(ctx, s)
			}
		})
	}
	reading.Wait()
}

// socket returns the socket of one of the pod's addresses, after it was replaced by
// another unless that is nil. It returns nil when the capture is closed.
func (c *udpCapture) socket(i int, other *net.UDPConn) *net.UDPConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other != nil {
		c.sockets[i] = other
	}
	if c.closed {
		_ = c.sockets[i].Close()
		return nil
	}
	return c.sockets[i]
}

// again returns a new socket for one that was closed, as soon as somebody is there to
// answer; nil when the capture is closed.
func (c *udpCapture) again(ctx context.Context, i int, ip netip.Addr) *net.UDPConn {
	for c.socket(i, nil) != nil {
		select {
		case <-time.After(refusing):
		case <-ctx.Done():
			return nil
		}
		if !c.answered() {
			continue
		}
		s, err := c.listen(ip)
		if err == nil {
			return c.socket(i, s)
		}
		c.agent.cfg.Log.Warn("port not listened on, trying again", "capture", c.Capture, "err", err)
	}
	return nil
}

// read takes the datagrams of a socket until it is closed.
func (c *udpCapture) read(ctx context.Context, s *net.UDPConn) {
	buffer := make([]byte, maxDatagram)
	for {
		n, client, err := s.ReadFromUDPAddrPort(buffer)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			c.agent.cfg.Log.Warn("datagrams not read, trying again", "capture", c.Capture, "err", err)
			select {
			case <-time.After(readAgain):
			case <-ctx.Done():
			}
			continue
		}
		c.touch()
		c.association(ctx, associationKey{s, client}).send(buffer[:n])
	}
}

// association returns the one that the client's next datagram belongs to.
func (c *udpCapture) association(ctx context.Context, key associationKey) *association {
	holder := c.agent.reg.of(c.Port())
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.all[key]; a != nil {
		if a.serves(holder) {
			c.used.MoveToFront(a.element)
			return a
		}
		c.forgetLocked(a)
		a.retire()
	}
	if len(c.all) >= c.agent.cfg.MaxAssociations {
		oldest := c.used.Back().Value.(*association)
		c.forgetLocked(oldest)
		oldest.end()
	}
	a := newAssociation(ctx, c, key, holder)
	c.all[key], a.element = a, c.used.PushFront(a)
	c.wg.Go(a.run)
	return a
}

// forget has the client's next datagram begin another association.
func (c *udpCapture) forget(a *association) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetLocked(a)
}

func (c *udpCapture) forgetLocked(a *association) {
	if c.all[a.key] == a {
		delete(c.all, a.key)
		c.used.Remove(a.element)
	}
}

// idleLimit is how long an association may be at rest.
func (c *udpCapture) idleLimit() time.Duration {
	if c.App == dnsPort {
		return dnsIdle
	}
	return udpIdle
}
