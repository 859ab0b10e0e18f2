package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// deniedError is a target the agent's policy forbids.
type deniedError struct{ text string }

func (e *deniedError) Error() string { return e.text }

// dial dials the address that a request names, as long as the opener waits.
func (a *Agent) dial(r *tunnel.Request, network string) (net.Conn, error) {
	dst, err := a.destination(r.Target().Address)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: a.cfg.DialTimeout}
	return apart(func() (net.Conn, error) { return d.DialContext(r.Context(), network, dst.String()) })
}

// destination reads IP:port, and returns a *deniedError if that may not be
// dialed.
func (a *Agent) destination(address string) (netip.AddrPort, error) {
	dst, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.AddrPort{}, &deniedError{fmt.Sprintf("%q is not IP:port", address)}
	}
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	return dst, a.mayDial(dst)
}

// apart runs dial on a goroutine of its own and waits for it. Dialing needs
// several times the stack of what follows, and a stack once grown stays.
func apart(dial func() (net.Conn, error)) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err = dial()
	}()
	<-done
	return conn, err
}

// mayDial keeps laptops from the pod's own loopback: the agent's control port
// is there, and what containers of the pod do not show to others. The
// unspecified address means loopback to the kernel.
func (a *Agent) mayDial(dst netip.AddrPort) error {
	ip := dst.Addr()
	local := ip.IsLoopback() || ip.IsUnspecified()
	switch {
	case local && (!a.cfg.AllowLoopback || dst.Port() == a.cfg.ControlPort):
		return &deniedError{fmt.Sprintf("%s is the pod's own loopback", dst)}
	case ip.IsMulticast(), ip.Zone() != "":
		return &deniedError{fmt.Sprintf("%s cannot be dialed", dst)}
	default:
		return nil
	}
}

// reasonOf says on the wire why a dial failed.
func reasonOf(err error) tunnel.Reason {
	var denied *deniedError
	var timeout net.Error
	switch {
	case errors.As(err, &denied):
		return tunnel.Denied
	case errors.Is(err, syscall.ECONNREFUSED):
		return tunnel.Refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return tunnel.Unreachable
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return tunnel.TimedOut
	default:
		return tunnel.Failed
	}
}
