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
	return a.openFirst(ctx, tunnel.Target{Network: api.NetworkService, Address: api.ServiceFiles})
}

// Socket connects to a UNIX socket among those files, by its path there. The caller closes
// the connection.
func (a *Agents) Socket(ctx context.Context, path string) (splice.Conn, error) {
	meta, err := json.Marshal(api.SocketRequest{Path: path})
	if err != nil {
		return nil, err
	}
	return a.openFirst(ctx, tunnel.Target{Network: api.NetworkService, Address: api.ServiceSocket, Meta: meta})
}

// openFirst asks the agents one after the other, by the names of their pods, until one is
// reached and accepts.
func (a *Agents) openFirst(ctx context.Context, target tunnel.Target) (*tunnel.Flow, error) {
	a.mu.Lock()
	var pods []*podLink
	for _, p := range a.pods {
		if !p.ending {
			pods = append(pods, p)
		}
	}
	a.mu.Unlock()
	slices.SortFunc(pods, func(a, b *podLink) int { return strings.Compare(a.name, b.name) })
	err := errors.New("no pod with an agent is there")
	for _, p := range pods {
		t, down := p.link.Up()
		if t == nil {
			err = fmt.Errorf("the agent in pod %s is not reached: %w", p.name, errors.Join(down, context.Cause(ctx)))
			continue
		}
		flow, refused := t.Open(ctx, target)
		if refused == nil {
			a.log.Debug("files are read", "pod", p.name, "service", target.Address)
			return flow, nil
		}
		err = fmt.Errorf("the agent in pod %s shows no files: %w", p.name, refused)
	}
	return nil, err
}
