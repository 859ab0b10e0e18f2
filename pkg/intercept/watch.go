package intercept

import (
	"context"
	"fmt"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Watch tells of the requests to a workload that somebody intercepts, whoever answers
// them. It returns nil when nobody intercepts it any more, and when ctx has ended.
func Watch(ctx context.Context, c *cluster.Cluster, name string, h cluster.WatchHandler) error {
	ref, err := c.Kinds().Parse(name)
	if err != nil {
		return err
	}
	getCtx, cancel := cluster.RequestContext(ctx)
	defer cancel()
	w, err := c.Kinds().Get(getCtx, c.Client(), c.Namespace(), ref)
	if err != nil {
		return c.Explain(getCtx, err, "")
	}
	if !hasAgents(w) {
		return hint.With(fmt.Errorf("nobody intercepts %s, and only an agent sees its requests", w),
			fmt.Sprintf("kubectl tele intercept %s --personal --port LOCAL takes none but yours", ref.Name))
	}
	agents, err := c.Agents(w)
	if err != nil {
		return err
	}
	defer agents.Close()
	stop, err := agents.Watch(agent.WatchRequest{}, h)
	if err != nil {
		return err
	}
	defer stop()
	for {
		w, changed := agents.Workload()
		if w == nil || !hasAgents(w) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func hasAgents(w *workload.Workload) bool {
	_, ok := inject.AgentIn(&w.Template.Spec)
	return ok
}
