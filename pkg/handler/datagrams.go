package handler

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// maxDatagram is the largest payload of UDP over IPv4.
const maxDatagram = 65507

// dialUDP makes a socket to the handler. Of a host with several addresses it is the first:
// for localhost 127.0.0.1.
func (h Handler) dialUDP(ctx context.Context) (*net.UDPConn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, DialTimeout, fmt.Errorf("no answer within %s", DialTimeout))
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", string(h))
	if err != nil {
		return nil, fmt.Errorf("reach the handler %s: %w", h, err)
	}
	return conn.(*net.UDPConn), nil
}

// CheckUDP returns nil if a socket of UDP is at the handler's address. Where that cannot be
// told, on another machine or of a port that only root may have, it is taken to be.
func (h Handler) CheckUDP(ctx context.Context) error {
	conn, err := h.dialUDP(ctx)
	if err != nil {
		return err
	}
	addr := conn.RemoteAddr().(*net.UDPAddr)
	local := conn.LocalAddr().(*net.UDPAddr)
	_ = conn.Close()
	if ip := addr.AddrPort().Addr().Unmap(); !ip.IsLoopback() && ip != local.AddrPort().Addr().Unmap() {
		return nil
	}
	free, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), uint16(addr.Port))))
	if err != nil {
		return nil
	}
	_ = free.Close()
	return hint.With(fmt.Errorf("reach the handler %s: nothing listens there by UDP", h))
}

// ServeDatagrams answers one captured association of UDP and returns when it has ended;
// the end of ctx ends it. When the handler turns out not to listen the flow is reset, and
// the agent passes what was not answered to the app.
func (s *Server) ServeDatagrams(ctx context.Context, req *tunnel.Request) {
	pair := s.conns.begin()
	defer s.conns.end(pair)
	conn, err := s.handler.dialUDP(req.Context())
	if err != nil {
		s.missed(err)
		_ = req.Refuse(tunnel.Refused, "the handler does not answer")
		return
	}
	flow, err := req.Accept()
	if err != nil {
		_ = conn.Close()
		return
	}
	end := func(err error) {
		if errors.Is(err, syscall.ECONNREFUSED) {
			s.missed(fmt.Errorf("reach the handler %s: %w", s.handler, err))
			_ = flow.Reset()
		}
		_ = flow.Close()
		_ = conn.Close()
	}
	defer context.AfterFunc(ctx, func() { end(nil) })()
	var wg sync.WaitGroup
	wg.Go(func() { end(s.fromHandler(flow, conn)) })
	end(toHandler(conn, flow))
	wg.Wait()
}

// toHandler returns why it ended: a datagram that is too large for the way, say, is lost.
func toHandler(conn *net.UDPConn, flow *tunnel.Flow) error {
	for {
		p, err := flow.ReadPacket()
		if err != nil {
			return err
		}
		if _, err := conn.Write(p); errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, net.ErrClosed) {
			return err
		}
	}
}

func (s *Server) fromHandler(flow *tunnel.Flow, conn *net.UDPConn) error {
	buffer := make([]byte, maxDatagram)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return err
		}
		s.failed.Store(nil)
		if _, err := flow.Write(buffer[:n]); err != nil {
			return err
		}
	}
}
