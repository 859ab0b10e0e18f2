package agent

import (
	"context"
	"encoding/json"
	"net"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// notUnderstood begins the refusal of a request that may be of a newer session.
const notUnderstood = "this agent does not understand the request: "

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
		a.reply(r, a.Info())
	case target.Network == api.NetworkService && target.Address == api.ServiceRegister:
		a.serveRegister(t, r)
	case target.Network == api.NetworkService && target.Address == api.ServiceListen:
		a.serveListen(r)
	case target.Network == api.NetworkService && target.Address == api.ServiceProbe:
		a.serveProbe(r)
	case target.Network == api.NetworkService && target.Address == api.ServiceWatch:
		a.serveWatch(r)
	case target.Network == api.NetworkService && target.Address == api.ServiceFiles:
		a.serveFiles(r)
	case target.Network == api.NetworkService && target.Address == api.ServiceSocket:
		a.serveSocket(r)
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

// reply accepts the request, answers with JSON and ends the flow.
func (a *Agent) reply(r *tunnel.Request, v any) {
	flow, err := r.Accept()
	if err != nil {
		return
	}
	defer func() { _ = flow.Close() }()
	_ = flow.SetDeadline(time.Now().Add(a.cfg.DialTimeout))
	if err := json.NewEncoder(flow).Encode(v); err != nil {
		a.cfg.Log.Debug("answer not delivered", "target", r.Target().String(), "err", err)
	}
}
