package netstack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// tcpDialing holds the connections whose SYN has come and whose dial has not
// ended:
//
//	SYN -> dialing -+- refused      -> RST
//	                +- unreachable  -> ICMP
//	                +- other error  -> nothing; the next SYN dials again
//	                +- ok -> handshake -> carried (no longer in here)
//
// SYNs that come again while their first is dialing are passed over.
type tcpDialing struct {
	s         *Stack
	forwarder *tcp.Forwarder

	mu      sync.Mutex
	pending map[stack.TransportEndpointID]*dialing
}

// dialing is one held SYN.
type dialing struct {
	quote []byte // its headers, for an ICMP error
}

func (t *tcpDialing) init(s *Stack) {
	t.s = s
	t.pending = make(map[stack.TransportEndpointID]*dialing)
	// The forwarder's own limit is out of reach: ours counts.
	t.forwarder = tcp.NewForwarder(s.gv, bufferDefault, s.cfg.MaxDialing+1, t.dial)
	s.gv.SetTransportProtocolHandler(tcp.ProtocolNumber, t.handle)
}

// handle gets each segment that belongs to no connection. False lets the
// stack answer it with RST.
func (t *tcpDialing) handle(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	s := t.s
	dst := toAddr(id.LocalAddress)
	if s.local[dst] {
		return false
	}
	if !s.routable(dst) {
		return true
	}
	flags := header.TCP(pkt.TransportHeader().Slice()).Flags()
	if flags&(header.TCPFlagSyn|header.TCPFlagAck|header.TCPFlagRst) != header.TCPFlagSyn {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, again := t.pending[id]; again {
		return true
	}
	if len(t.pending) >= s.cfg.MaxDialing || !s.begin() {
		s.link.dropped.Add(1)
		return true
	}
	t.pending[id] = &dialing{quote: quoteOf(pkt)}
	if !t.forwarder.HandlePacket(id, pkt) {
		delete(t.pending, id)
		s.flows.Done()
		return false
	}
	return true
}

// abort ends handshakes that are under way; dials end with the context.
func (t *tcpDialing) abort() {
	for _, ep := range t.s.gv.RegisteredEndpoints() {
		if ep, ok := ep.(*tcp.Endpoint); ok && tcp.EndpointState(ep.State()) == tcp.StateSynRecv {
			ep.Abort()
		}
	}
}

// dial runs on a goroutine of its own for each SYN that handle let through,
// and ends when the connection is under way: what carries it needs none.
func (t *tcpDialing) dial(r *tcp.ForwarderRequest) {
	s := t.s
	id := r.ID()
	t.mu.Lock()
	held := t.pending[id]
	t.mu.Unlock()
	conn, flow := t.connect(r, id, held)
	if conn == nil {
		s.flows.Done()
		return
	}
	s.tcpOpened.Add(1)
	s.tcpActive.Add(1)
	splice.Join(s.ctx, conn, flow, func(_ splice.Stats, err error) {
		if err != nil {
			s.cfg.Log.Debug("connection ended", "dst", dstOf(id), "err", err)
		}
		s.tcpActive.Add(-1)
		s.flows.Done()
	})
}

// connect dials and completes the handshake, or answers the SYN otherwise and
// returns nil.
func (t *tcpDialing) connect(r *tcp.ForwarderRequest, id stack.TransportEndpointID, held *dialing) (*tcpConn, splice.Carrier) {
	s := t.s
	dst := dstOf(id)
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.DialLimit)
	flow, err := s.cfg.DialTCP(ctx, dst)
	cancel()
	if err != nil {
		s.cfg.Log.Debug("dial failed", "dst", dst, "err", err)
		refused := errors.Is(err, syscall.ECONNREFUSED)
		if refused {
			s.tcpRefused.Add(1)
		} else {
			s.tcpFailed.Add(1)
		}
		t.complete(r, refused)
		switch {
		case refused:
		case errors.Is(err, syscall.EHOSTUNREACH):
			s.unreachable(held.quote, unreachableHost)
		case errors.Is(err, syscall.ENETUNREACH):
			s.unreachable(held.quote, unreachableNet)
		}
		return nil, nil
	}
	wq := new(waiter.Queue)
	ep, terr := r.CreateEndpoint(wq)
	t.complete(r, false)
	if terr != nil {
		// The application has given up in the meantime.
		s.cfg.Log.Debug("handshake failed", "dst", dst, "err", terr)
		s.tcpFailed.Add(1)
		_ = splice.Reset(flow)
		return nil, nil
	}
	return newTCPConn(wq, ep, id), flow
}

// complete ends a dial, with RST or without. Whoever gets the answer may send
// the next SYN at once: it must not be taken for one that comes again.
func (t *tcpDialing) complete(r *tcp.ForwarderRequest, reset bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := r.ID() // Complete forgets it
	r.Complete(reset)
	delete(t.pending, id)
}

func dstOf(id stack.TransportEndpointID) netip.AddrPort {
	return netip.AddrPortFrom(toAddr(id.LocalAddress), id.LocalPort)
}

// tcpConn is a connection with the local kernel.
type tcpConn struct {
	*gonet.TCPConn
	ep            tcpip.Endpoint
	local, remote *net.TCPAddr // the endpoint forgets them when it ends
	readiness     splice.Readiness
}

func newTCPConn(wq *waiter.Queue, ep tcpip.Endpoint, id stack.TransportEndpointID) *tcpConn {
	c := &tcpConn{
		TCPConn: gonet.NewTCPConn(wq, ep),
		ep:      ep,
		local:   net.TCPAddrFromAddrPort(dstOf(id)),
		remote:  net.TCPAddrFromAddrPort(netip.AddrPortFrom(toAddr(id.RemoteAddress), id.RemotePort)),
	}
	var readable waiter.Entry
	readable.Init(c, waiter.EventIn|waiter.EventHUp|waiter.EventErr)
	wq.EventRegister(&readable)
	return c
}

// NotifyEvent implements waiter.EventListener. The endpoint may be locked.
func (c *tcpConn) NotifyEvent(waiter.EventMask) { c.readiness.Set() }

// TryRead implements splice.Polled.
func (c *tcpConn) TryRead(p []byte, ready func()) (int, error) {
	for {
		buf := tcpip.SliceWriter(p)
		result, terr := c.ep.Read(&buf, tcpip.ReadOptions{})
		switch {
		case terr == nil:
			return result.Count, nil
		case !isWouldBlock(terr):
			return 0, c.ended(terr)
		case c.readiness.Wait(ready):
			return 0, nil
		}
	}
}

// TryWrite takes what fits into the send buffer.
func (c *tcpConn) TryWrite(p []byte) (int, error) {
	n, terr := c.ep.Write(bytes.NewReader(p), tcpip.WriteOptions{})
	if terr == nil || isWouldBlock(terr) {
		return int(n), nil
	}
	return int(n), c.ended(terr)
}

// ended is how the connection has ended. The endpoint says so once, to a read or
// a write, and EOF after that.
func (c *tcpConn) ended(terr tcpip.Error) error {
	switch terr.(type) {
	case *tcpip.ErrClosedForReceive:
		if tcp.EndpointState(c.ep.State()) == tcp.StateError {
			return syscall.ECONNRESET
		}
		return io.EOF
	case *tcpip.ErrConnectionReset:
		return syscall.ECONNRESET
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	default:
		return errors.New(terr.String())
	}
}

func isWouldBlock(err tcpip.Error) bool {
	_, is := err.(*tcpip.ErrWouldBlock)
	return is
}

func (c *tcpConn) LocalAddr() net.Addr  { return c.local }
func (c *tcpConn) RemoteAddr() net.Addr { return c.remote }

// Close implements net.Conn, and ends a TryRead that waits.
func (c *tcpConn) Close() error {
	defer c.readiness.Set()
	return c.TCPConn.Close()
}

// Reset ends the connection with RST.
func (c *tcpConn) Reset() error {
	defer c.readiness.Set()
	c.ep.Abort()
	c.ep.Close()
	return nil
}
