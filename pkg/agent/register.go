package agent

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// serveRegister keeps a registration in force for as long as its flow lives.
func (a *Agent) serveRegister(t *tunnel.Tunnel, r *tunnel.Request) {
	registration, err := api.ParseRegistration(r.Target().Meta)
	if err != nil {
		_ = r.Refuse(tunnel.Unknown, notUnderstood+err.Error())
		return
	}
	if registration.Owner.Since.IsZero() {
		registration.Owner.Since = time.Now()
	}
	h, err := a.reg.add(registration, t)
	var conflict *conflictError
	switch {
	case errors.As(err, &conflict):
		_ = r.Refuse(tunnel.Conflict, err.Error())
		return
	case err != nil:
		_ = r.Refuse(tunnel.Unknown, err.Error())
		return
	}
	flow, err := r.Accept()
	if err != nil {
		a.reg.remove(h)
		return
	}
	log := a.cfg.Log.With("id", registration.ID, "user", registration.Owner.User)
	log.Info("registration begins", "rules", registration.Rules)
	stop := context.AfterFunc(h.ended, func() { _ = flow.Close() }) // replaced
	defer stop()
	_, _ = io.Copy(io.Discard, flow)
	a.reg.remove(h)
	_ = flow.Close() // only now: io.EOF tells the session that it has left
	log.Info("registration ends")
}
