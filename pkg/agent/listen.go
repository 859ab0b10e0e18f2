package agent

import (
	"errors"
	"syscall"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// serveListen adds captures, which stay when the flow has ended.
func (a *Agent) serveListen(r *tunnel.Request) {
	request, err := api.ParseListenRequest(r.Target().Meta)
	if err != nil {
		_ = r.Refuse(tunnel.Unknown, notUnderstood+err.Error())
		return
	}
	captures, err := a.captures.add(request.Captures)
	switch {
	case errors.Is(err, errListened), errors.Is(err, syscall.EADDRINUSE):
		_ = r.Refuse(tunnel.Conflict, err.Error())
		return
	case err != nil:
		_ = r.Refuse(tunnel.Failed, err.Error())
		return
	}
	a.cfg.Log.Info("agent captures", "captures", captures)
	a.reply(r, api.ListenReply{Captures: captures})
}
