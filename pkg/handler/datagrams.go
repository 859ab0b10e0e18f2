package handler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/kubectl-tele/kubectl-tele/pkg/datagram"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// udpAddr returns the address of UDP at which the handler is: of several that its host has
// the first at which something of this machine listens, as far as that can be told, else the
// first of IPv4. Connecting alone, as to a port of TCP, tells nothing.
func (h Handler) udpAddr(ctx context.Context) (netip.AddrPort, error) {
	all, err := h.udpAddrs(ctx)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, at := range all {
		if bound, _ := datagram.Bound(at); bound && at.Addr().IsLoopback() {
			return at, nil
		}
	}
	return all[0], nil
}

// udpAddrs returns all addresses that the handler's host has, at least one, those of IPv4
// first.
func (h Handler) udpAddrs(ctx context.Context) (all []netip.AddrPort, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, DialTimeout, fmt.Errorf("no answer within %s", DialTimeout))
	defer cancel()
	host, port, err := net.SplitHostPort(string(h))
	n, numErr := strconv.ParseUint(port, 10, 16)
	if err = errors.Join(err, numErr); err != nil {
		return nil, fmt.Errorf("reach the handler %s: %w", h, err)
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err == nil && len(found) == 0 {
		err = errors.New("its host has no address")
	}
	if err != nil {
		return nil, fmt.Errorf("reach the handler %s: %w", h, err)
	}
	for _, ip := range found {
		all = append(all, netip.AddrPortFrom(ip.Unmap(), uint16(n)))
	}
	slices.SortStableFunc(all, func(a, b netip.AddrPort) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	return all, nil
}

func (h Handler) dialUDP(ctx context.Context) (*net.UDPConn, error) {
	at, err := h.udpAddr(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("reach the handler %s: %w", h, err)
	}
	return conn, nil
}

// CheckUDP returns nil if a socket of UDP is at the handler's address. Where that cannot be
// told, on another machine or of a port that only root may have, it is taken to be.
func (h Handler) CheckUDP(ctx context.Context) error {
	all, err := h.udpAddrs(ctx)
	if err != nil {
		return err
	}
	for _, at := range all {
		bound, known := datagram.Bound(at)
		switch {
		case bound, !at.Addr().IsLoopback():
			return nil
		case known:
			continue
		}
		free, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return nil
		}
		_ = free.Close()
	}
	return fmt.Errorf("reach the handler %s: nothing listens there by UDP", h)
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
	end := func() {
		_ = flow.Close()
		_ = conn.Close()
	}
	defer context.AfterFunc(ctx, end)()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer end()
		if err := s.fromHandler(flow, conn); err != nil {
			s.missed(fmt.Errorf("reach the handler %s: %w", s.handler, err))
			_ = flow.Reset()
		}
	})
	toHandler(conn, flow)
	end()
	wg.Wait()
}

// toHandler returns at the end of the flow, or of the socket. What the handler refuses is for
// the reading side to see, and what is too large for the way is lost.
func toHandler(conn *net.UDPConn, flow *tunnel.Flow) {
	for {
		p, err := flow.ReadPacket()
		if err != nil {
			return
		}
		if _, err = conn.Write(p); errors.Is(err, syscall.ECONNREFUSED) {
			_, err = conn.Write(p) // the refusal was of one before
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// fromHandler returns why the handler is not reached, nil at the end of the flow or of the
// socket.
func (s *Server) fromHandler(flow *tunnel.Flow, conn *net.UDPConn) error {
	for {
		ended := false
		err := datagram.Read(conn, func(p []byte) error {
			s.failed.Store(nil)
			_, err := flow.Write(p)
			ended = err != nil
			return err
		})
		switch {
		case err == nil:
		case ended, errors.Is(err, net.ErrClosed), errors.Is(err, io.EOF):
			return nil
		default:
			return err
		}
	}
}
