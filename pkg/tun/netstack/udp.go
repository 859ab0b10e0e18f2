package netstack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// maxDatagram is the largest payload of UDP over IPv4.
const maxDatagram = 65507

// PacketConn is a connection of datagrams that needs no buffer to wait with.
type PacketConn interface {
	net.Conn
	// ReadPacket is Read of a datagram that is the caller's.
	ReadPacket() ([]byte, error)
}

// udpTable makes an association for each 4-tuple.
type udpTable struct {
	s *Stack
}

func (t *udpTable) init(s *Stack) {
	t.s = s
	s.gv.SetTransportProtocolHandler(udp.ProtocolNumber, t.handle)
}

// handle gets each datagram that belongs to no association, on the read loop.
// False lets the stack answer it with "port unreachable".
func (t *udpTable) handle(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	s := t.s
	dst := toAddr(id.LocalAddress)
	if s.local[dst] {
		return false
	}
	if !s.routable(dst) {
		return true
	}
	if s.udpActive.Load() >= int64(s.cfg.MaxUDP) || !s.begin() {
		s.link.dropped.Add(1)
		return true
	}
	quote := quoteOf(pkt)
	wq := new(waiter.Queue)
	ep, err := udp.NewForwarderRequest(s.gv, id, pkt.Clone()).CreateEndpoint(wq)
	if err != nil {
		s.cfg.Log.Debug("association failed", "dst", dstOf(id), "err", err)
		s.flows.Done()
		return true
	}
	s.udpActive.Add(1)
	go func() {
		defer s.flows.Done()
		defer s.udpActive.Add(-1)
		t.carry(id, &udpConn{gonet.NewUDPConn(wq, ep), ep, wq}, quote)
	}()
	return true
}

// carry dials and copies datagrams both ways until the association is idle
// for too long, either side fails or the stack closes.
func (t *udpTable) carry(id stack.TransportEndpointID, app *udpConn, quote []byte) {
	s := t.s
	dst := dstOf(id)
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.DialLimit)
	flow, err := s.cfg.DialUDP(ctx, dst)
	cancel()
	if err != nil {
		s.udpFailed.Add(1)
		s.cfg.Log.Debug("dial failed", "network", "udp", "dst", dst, "err", err)
		_ = app.Close()
		if s.ctx.Err() == nil {
			s.unreachable(quote, unreachablePort)
		}
		return
	}
	s.udpOpened.Add(1)
	var (
		active atomic.Int64 // when the last datagram passed, in ns
		once   sync.Once
		cause  error
		wg     sync.WaitGroup
	)
	active.Store(time.Now().UnixNano())
	stop := func(err error) {
		once.Do(func() {
			cause = err
			_ = app.Close()
			_ = flow.Close()
		})
	}
	unwatch := context.AfterFunc(s.ctx, func() { stop(context.Cause(s.ctx)) })
	var idle *time.Timer
	armed := make(chan struct{})
	idle = time.AfterFunc(s.cfg.UDPIdle, func() {
		<-armed
		left := s.cfg.UDPIdle - time.Duration(time.Now().UnixNano()-active.Load())
		if left <= 0 {
			stop(nil)
			return
		}
		idle.Reset(left)
	})
	close(armed)
	wg.Go(func() { stop(copyDatagrams(flow, app, &active)) })
	wg.Go(func() { stop(copyDatagrams(app, flow, &active)) })
	wg.Wait()
	unwatch()
	idle.Stop()
	if cause != nil && s.ctx.Err() == nil {
		s.cfg.Log.Debug("association ended", "dst", dst, "err", cause)
		s.unreachable(quote, unreachablePort)
	}
}

// copyDatagrams returns nil when src has ended in an orderly way. A datagram
// that dst does not take is lost, unless dst is closed for good.
func copyDatagrams(dst, src PacketConn, active *atomic.Int64) error {
	for {
		packet, err := src.ReadPacket()
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
				return nil
			}
			return err
		}
		active.Store(time.Now().UnixNano())
		if len(packet) > maxDatagram {
			continue
		}
		if _, err := dst.Write(packet); err != nil && (errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)) {
			return nil
		}
	}
}

// udpConn is an association with the local kernel.
type udpConn struct {
	*gonet.UDPConn
	ep tcpip.Endpoint
	wq *waiter.Queue
}

// ReadPacket implements PacketConn.
func (c *udpConn) ReadPacket() ([]byte, error) {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	c.wq.EventRegister(&entry)
	defer c.wq.EventUnregister(&entry)
	for {
		var packet bytes.Buffer
		_, terr := c.ep.Read(&packet, tcpip.ReadOptions{})
		switch terr.(type) {
		case nil:
			return packet.Bytes(), nil
		case *tcpip.ErrWouldBlock:
			<-ready
		case *tcpip.ErrClosedForReceive:
			return nil, io.EOF
		default:
			return nil, errors.New(terr.String())
		}
	}
}
