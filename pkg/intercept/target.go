package intercept

import (
	"context"
	"errors"
	"fmt"

	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// target is the port of a workload that an intercept takes.
type target struct {
	workload.Ref
	port *workload.Port
}

func (t *target) String() string { return fmt.Sprintf("%s port %d", t.Ref, t.port.Number) }

// serviceNames are the Services that lead to the port.
func (t *target) serviceNames() []string {
	names := []string{}
	for _, svc := range t.port.Services {
		names = append(names, svc.Service.Name)
	}
	return names
}

// findTarget resolves what the user named. A workload that carries an agent is
// looked at as it would be without.
func findTarget(ctx context.Context, c *cluster.Cluster, spec api.InterceptSpec) (*target, error) {
	ctx, cancel := cluster.RequestContext(ctx)
	defer cancel()
	ref, err := c.Kinds().Parse(spec.Workload)
	if err != nil {
		return nil, err
	}
	w, err := c.Kinds().Get(ctx, c.Client(), c.Namespace(), ref)
	if err != nil {
		return nil, err
	}
	// Without the record, the agent's own ports would be taken for the app's.
	if _, err := inject.ReadRecord(w.Object); errors.Is(err, inject.ErrNewer) {
		return nil, err
	}
	services, err := workload.Selecting(ctx, c.Client(), c.Namespace(), w.Template.Labels)
	if err != nil {
		return nil, err
	}
	for i := range services {
		services[i] = *inject.OriginalService(&services[i], inject.CapturesIn(w)...)
	}
	port, err := workload.FindPort(inject.Original(w), services, spec.Port, spec.Service)
	if err != nil {
		return nil, err
	}
	return &target{Ref: w.Ref, port: port}, nil
}
