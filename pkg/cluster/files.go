package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// Files opens a connection over which one of the agents shows the files of its pod, as
// api.ServiceFiles says. The caller closes it; it ends with the pod at the latest.
func (a *Agents) Files(ctx context.Context) (io.ReadWriteCloser, error) {
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
		flow, refused := t.Open(ctx, tunnel.Target{Network: api.NetworkService, Address: api.ServiceFiles})
		if refused == nil {
			a.log.Debug("files are read", "pod", p.name)
			return flow, nil
		}
		err = fmt.Errorf("the agent in pod %s shows no files: %w", p.name, refused)
	}
	return nil, err
}
