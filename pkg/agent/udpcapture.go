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
	"github.com/kubectl-tele/kubectl-tele/pkg/datagram"
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
	used   list.List          // of *association; the one at rest for the longest is last
	each   map[netip.Addr]int // how many a client's address has
	wg     sync.WaitGroup
}

type associationKey struct {
	socket *net.UDPConn
	client netip.AddrPort
}

// listenUDP listens on the capture's port, or if that is 0 on any, the same at all of the
// pod's addresses.
func listenUDP(c api.Capture, a *Agent) (captured, error) {
	u := &udpCapture{captureBase: captureBase{Capture: c, agent: a}, all: map[associationKey]*association{}, each: map[netip.Addr]int{}}
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

// busy reports whether a datagram came lately and somebody is there to answer its sender,
// who may still wait or go on.
func (c *udpCapture) busy() bool {
	since, ok := c.idle()
	return ok && since < 10*c.agent.cfg.DrainPoll && c.answered()
}

// answered reports whether a session or the app may answer datagrams.
func (c *udpCapture) answered() bool {
	bound, known := c.agent.boundUDP(c.App)
	return bound || !known || c.agent.reg.of(c.Port()) != nil
}

// boundUDP reports whether an app listens on a port of UDP, as far as the kernel tells.
func (a *Agent) boundUDP(port uint16) (bound, known bool) {
	for _, ip := range a.cfg.PodIPs {
		at, told := datagram.Bound(netip.AddrPortFrom(ip, port))
		bound, known = bound || at, known || told
	}
	return bound, known
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
	for told := false; c.socket(i, nil) != nil; told = true {
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
		if !told {
			c.agent.cfg.Log.Warn("port not listened on, trying again", "capture", c.Capture, "err", err)
		}
	}
	return nil
}

// read takes the datagrams of a socket until it is closed.
func (c *udpCapture) read(ctx context.Context, s *net.UDPConn) {
	buffer := make([]byte, datagram.Max)
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
		for !c.association(ctx, associationKey{s, client}).send(buffer[:n]) { // it has just ended
		}
	}
}

// association returns the one that the client's next datagram belongs to.
func (c *udpCapture) association(ctx context.Context, key associationKey) *association {
	holder := c.agent.reg.of(c.Port())
	c.mu.Lock()
	defer c.mu.Unlock()
	var beside *association
	if a := c.all[key]; a != nil {
		switch serving, ask := a.serves(holder); {
		case serving && !ask:
			c.used.MoveToFront(a.element)
			return a
		case serving:
			beside = a
		default:
			a.retire()
		}
		c.forgetLocked(a)
	}
	c.makeRoomLocked(key.client.Addr())
	a := newAssociation(ctx, c, key, holder)
	a.beside = beside
	c.putLocked(a)
	c.wg.Go(a.run)
	return a
}

// makeRoomLocked ends the association at rest for the longest, of all or of a client's
// address that has its share, where there is no place for another.
func (c *udpCapture) makeRoomLocked(client netip.Addr) {
	most := c.agent.cfg.MaxAssociations
	whole := len(c.all) >= most
	if !whole && c.each[client] < max(most/4, 1) {
		return
	}
	for e := c.used.Back(); e != nil; e = e.Prev() {
		a := e.Value.(*association)
		if c.each[client] < max(most/4, 1) || a.key.client.Addr() == client {
			c.forgetLocked(a)
			a.end()
			return
		}
	}
}

func (c *udpCapture) putLocked(a *association) {
	c.all[a.key], a.element = a, c.used.PushFront(a)
	c.each[a.key.client.Addr()]++
}

// putBack has the client's next datagrams go to what was there before an association that
// nobody took; false if that has ended, or others have begun.
func (c *udpCapture) putBack(a, before *association) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[a.key] != a || before.ctx.Err() != nil {
		return false
	}
	c.forgetLocked(a)
	c.putLocked(before)
	return true
}

// forget has the client's next datagram begin another association.
func (c *udpCapture) forget(a *association) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetLocked(a)
}

func (c *udpCapture) forgetLocked(a *association) {
	if c.all[a.key] != a {
		return
	}
	delete(c.all, a.key)
	c.used.Remove(a.element)
	client := a.key.client.Addr()
	if c.each[client]--; c.each[client] == 0 {
		delete(c.each, client)
	}
}

// idleLimit is how long an association may be at rest.
func (c *udpCapture) idleLimit() time.Duration {
	if c.App == dnsPort {
		return dnsIdle
	}
	return udpIdle
}
