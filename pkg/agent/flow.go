package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// serveFlow answers one open and calls done when its flow has ended. A TCP
// connection goes on when it returns.
func (a *Agent) serveFlow(t *tunnel.Tunnel, r *tunnel.Request, done func()) {
	target := r.Target()
	switch {
	case target.Network == "tcp":
		a.serveTCP(r, done)
		return
	case target.Network == "udp":
		a.serveUDP(r)
	case target.Network == api.NetworkService && target.Address == api.ServiceInfo:
		a.serveInfo(r)
	case target.Network == api.NetworkService && target.Address == api.ServiceIntercept:
		a.serveIntercept(t, r)
	default:
		_ = r.Refuse(tunnel.Unknown, "this agent knows no "+target.String())
	}
	done()
}

func (a *Agent) serveTCP(r *tunnel.Request, done func()) {
	conn, err := a.dial(r, "tcp")
	if err != nil {
		_ = r.Refuse(reasonOf(err), err.Error())
		done()
		return
	}
	flow, err := r.Accept()
	if err != nil {
		_ = conn.Close()
		done()
		return
	}
	a.join(context.Background(), flow, conn.(*net.TCPConn), func(err error) {
		if err != nil {
			a.cfg.Log.Debug("flow ended", "target", flow.Target().String(), "err", err)
		}
		done()
	})
}

// deniedError is a target the agent's policy forbids.
type deniedError struct{ text string }

func (e *deniedError) Error() string { return e.text }

// dial dials the address that a request names, as long as the opener waits.
func (a *Agent) dial(r *tunnel.Request, network string) (net.Conn, error) {
	dst, err := netip.ParseAddrPort(r.Target().Address)
	if err != nil {
		return nil, &deniedError{fmt.Sprintf("%q is not IP:port", r.Target().Address)}
	}
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	if err := a.mayDial(dst); err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: a.cfg.DialTimeout}
	return apart(func() (net.Conn, error) { return d.DialContext(r.Context(), network, dst.String()) })
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

func (a *Agent) serveInfo(r *tunnel.Request) {
	flow, err := r.Accept()
	if err != nil {
		return
	}
	defer func() { _ = flow.Close() }()
	_ = flow.SetDeadline(time.Now().Add(a.cfg.DialTimeout))
	if err := json.NewEncoder(flow).Encode(a.Info()); err != nil {
		a.cfg.Log.Debug("info not delivered", "err", err)
	}
}

// serveIntercept holds an intercept for as long as its flow lives.
func (a *Agent) serveIntercept(t *tunnel.Tunnel, r *tunnel.Request) {
	var request api.InterceptRequest
	if err := json.Unmarshal(r.Target().Meta, &request); err != nil {
		_ = r.Refuse(tunnel.Failed, "intercept request: "+err.Error())
		return
	}
	if request.Owner.Since.IsZero() {
		request.Owner.Since = time.Now()
	}
	i, err := a.reg.add(request, t)
	var conflict *conflictError
	switch {
	case errors.As(err, &conflict):
		_ = r.Refuse(tunnel.Conflict, err.Error())
		return
	case err != nil:
		_ = r.Refuse(tunnel.Unknown, fmt.Sprintf("port %d: %v", request.Port, err))
		return
	}
	flow, err := r.Accept()
	if err != nil {
		a.reg.remove(i)
		return
	}
	log := a.cfg.Log.With("id", request.ID, "port", request.Port, "user", request.Owner.User)
	log.Info("intercept begins")
	stop := context.AfterFunc(i.ended, func() { _ = flow.Close() }) // replaced
	defer stop()
	_, _ = io.Copy(io.Discard, flow)
	a.reg.remove(i)
	_ = flow.Close() // only now: io.EOF tells the session that it has left
	log.Info("intercept ends")
}
