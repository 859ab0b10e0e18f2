package netstack

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// ListenPacket serves UDP on one of the Local addresses.
func (s *Stack) ListenPacket(addr netip.AddrPort) (net.PacketConn, error) {
	full, err := s.localAddr(addr)
	if err != nil {
		return nil, fmt.Errorf("listen on udp %s: %w", addr, err)
	}
	c, err := gonet.DialUDP(s.gv, &full, nil, protocolOf(addr.Addr()))
	if err != nil {
		return nil, fmt.Errorf("listen on udp %s: %w", addr, err)
	}
	return &packetConn{UDPConn: c}, nil
}

// Listen serves TCP on one of the Local addresses. Its connections have
// CloseWrite, and Reset for RST.
func (s *Stack) Listen(addr netip.AddrPort) (net.Listener, error) {
	full, err := s.localAddr(addr)
	if err != nil {
		return nil, fmt.Errorf("listen on tcp %s: %w", addr, err)
	}
	l, err := gonet.ListenTCP(s.gv, full, protocolOf(addr.Addr()))
	if err != nil {
		return nil, fmt.Errorf("listen on tcp %s: %w", addr, err)
	}
	return &listener{TCPListener: l}, nil
}

func (s *Stack) localAddr(addr netip.AddrPort) (tcpip.FullAddress, error) {
	if !s.local[addr.Addr()] {
		return tcpip.FullAddress{}, errors.New("not a local address of the stack")
	}
	if s.ctx.Err() != nil {
		return tcpip.FullAddress{}, net.ErrClosed
	}
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(addr.Addr().AsSlice()), Port: addr.Port()}, nil
}

// listener adds what net.Listener promises: Close ends Accept.
type listener struct {
	*gonet.TCPListener
	closed atomic.Bool
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.TCPListener.Accept()
	if err != nil {
		if l.closed.Load() {
			err = net.ErrClosed
		}
		return nil, err
	}
	return c, nil
}

func (l *listener) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	return l.TCPListener.Close()
}

// packetConn adds what net.PacketConn promises: its end is net.ErrClosed, and
// any form of an address will do.
type packetConn struct {
	*gonet.UDPConn
}

func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := c.UDPConn.ReadFrom(b)
	if errors.Is(err, io.EOF) {
		err = net.ErrClosed
	}
	return n, addr, err
}

func (c *packetConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	to, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("write to %v: not a udp address", addr)
	}
	if v4 := to.IP.To4(); v4 != nil {
		to = &net.UDPAddr{IP: v4, Port: to.Port}
	}
	return c.UDPConn.WriteTo(b, to)
}
