package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// Files opens a connection over which one of the agents shows the files of its pod, as
// api.ServiceFiles says. The caller closes it; it ends with the pod at the latest.
func (a *Agents) Files(ctx context.Context) (io.ReadWriteCloser, error) {
	err := errors.New("no pod with an agent is there")
	for _, p := range a.staying() {
		var flow *tunnel.Flow
		if flow, err = p.open(ctx, tunnel.Target{Network: api.NetworkService, Address: api.ServiceFiles}); err == nil {
			a.log.Debug("files are read", "pod", p.name)
			a.mu.Lock()
			a.filesOf = p.uid
			a.mu.Unlock()
			return flow, nil
		}
	}
	return nil, err
}

// Socket connects to a UNIX socket among those files, of the pod that Files connected to
// last, by its path there. The caller closes the connection.
func (a *Agents) Socket(ctx context.Context, path string) (splice.Conn, error) {
	meta, err := json.Marshal(api.SocketRequest{Path: path})
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	p := a.pods[a.filesOf]
	a.mu.Unlock()
	if p == nil {
		return nil, errors.New("the pod whose files are read is gone")
	}
	return p.open(ctx, tunnel.Target{Network: api.NetworkService, Address: api.ServiceSocket, Meta: meta})
}

// staying returns the pods that are not being deleted, in the order of their names.
func (a *Agents) staying() (pods []*podLink) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pods {
		if !p.ending {
			pods = append(pods, p)
		}
	}
	slices.SortFunc(pods, func(a, b *podLink) int { return strings.Compare(a.name, b.name) })
	return pods
}

// open opens a flow to the pod's agent.
func (p *podLink) open(ctx context.Context, target tunnel.Target) (*tunnel.Flow, error) {
	t, down := p.link.Up()
	if t == nil {
		return nil, fmt.Errorf("the agent in pod %s is not reached: %w", p.name, errors.Join(down, context.Cause(ctx)))
	}
	flow, err := t.Open(ctx, target)
	if err != nil {
		return nil, fmt.Errorf("the agent in pod %s does not give %s: %w", p.name, target.Address, err)
	}
	return flow, nil
}
