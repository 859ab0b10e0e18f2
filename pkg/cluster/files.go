package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// Files are those that the agents of a workload show: always of one pod, and of another when
// that has gone. Its methods may be called concurrently.
type Files struct {
	agents *Agents
	pod    atomic.Pointer[podLink] // that Open connected to last
}

// Files returns the files that the agents show.
func (a *Agents) Files() *Files { return &Files{agents: a} }

// Open opens a connection over which one of the agents shows the files of its pod, as
// api.ServiceFiles says. The caller closes it; it ends with the pod at the latest.
func (f *Files) Open(ctx context.Context) (io.ReadWriteCloser, error) {
	err := errors.New("no pod with an agent is there")
	for _, p := range f.agents.staying() {
		var flow *tunnel.Flow
		if flow, err = p.open(ctx, tunnel.Target{Network: api.NetworkService, Address: api.ServiceFiles}); err == nil {
			f.agents.log.Debug("files are read", "pod", p.name)
			f.pod.Store(p)
			return flow, nil
		}
	}
	return nil, err
}

// Pod is the name of the pod whose files are shown; "" before Open.
func (f *Files) Pod() string {
	if p := f.pod.Load(); p != nil {
		return p.name
	}
	return ""
}

// Socket connects to a UNIX socket among those files, of the pod that Open connected to
// last, by its path there. The caller closes the connection.
func (f *Files) Socket(ctx context.Context, path string) (splice.Conn, error) {
	meta, err := json.Marshal(api.SocketRequest{Path: path})
	if err != nil {
		return nil, err
	}
	p := f.pod.Load()
	if p == nil {
		return nil, errors.New("no files are read yet")
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
