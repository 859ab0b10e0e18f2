package session

import (
	"context"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// askInfo asks the agent at the other end of t for its Info. The end of ctx
// ends the flow.
func askInfo(ctx context.Context, t *tunnel.Tunnel) (api.Info, error) {
	flow, err := t.Open(ctx, tunnel.Target{Network: api.NetworkService, Address: api.ServiceInfo})
	if err != nil {
		return api.Info{}, err
	}
	defer func() { _ = flow.Close() }()
	defer context.AfterFunc(ctx, func() { _ = flow.Close() })()
	return api.ReadInfo(flow)
}
