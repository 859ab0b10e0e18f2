package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

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
