package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// Prober is an agent that makes connections which carry nothing, to see where the
// cluster leads them.
type Prober struct{ tunnel *tunnel.Tunnel }

// Probers returns one agent for each node that has any, nil where the agent
// cannot probe or does not answer.
func (a *Agents) Probers(ctx context.Context) map[string]*Prober {
	census := a.Ask(ctx)
	able := map[string]bool{}
	for _, info := range census.Infos {
		able[info.Pod] = info.Has(api.FeatureProbe)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	all := map[string]*Prober{}
	for _, p := range a.pods {
		t, _ := p.link.Up()
		switch {
		case t != nil && able[p.name]:
			all[p.node] = &Prober{tunnel: t}
		case all[p.node] == nil:
			all[p.node] = nil
		}
	}
	return all
}

// Probe makes the connection that is asked for. It returns when the connection is
// made; release ends it.
func (p *Prober) Probe(ctx context.Context, r api.ProbeRequest) (release func(), err error) {
	meta, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write the probe: %w", err)
	}
	flow, err := p.tunnel.Open(ctx, tunnel.Target{Network: api.NetworkService, Address: api.ServiceProbe, Meta: meta})
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = flow.Close() })
	release = func() {
		stop()
		_ = flow.Close()
	}
	reply, err := api.ReadProbeReply(flow)
	if err == nil && !reply.Connected {
		err = errors.New(reply.Error)
	}
	if err != nil {
		release()
		return nil, fmt.Errorf("probe %s: %w", r.Address, err)
	}
	return release, nil
}
