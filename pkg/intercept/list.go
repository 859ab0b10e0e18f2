package intercept

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// List returns the workloads of the namespace in the order of their names, with
// everybody's intercepts.
func List(ctx context.Context, c *cluster.Cluster) ([]api.Workload, error) {
	all, err := c.Kinds().List(ctx, c.Client(), c.Namespace())
	if err != nil {
		return nil, c.Explain(ctx, err, "")
	}
	out := make([]api.Workload, len(all))
	var wg sync.WaitGroup
	for n, w := range all {
		wg.Go(func() { out[n] = describe(ctx, c, w) })
	}
	wg.Wait()
	slices.SortStableFunc(out, func(a, b api.Workload) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func describe(ctx context.Context, c *cluster.Cluster, w *workload.Workload) api.Workload {
	out := api.Workload{
		Kind: w.Ref.Kind, Group: w.Kind.Resource().Group, Name: w.Name, Namespace: w.Namespace(),
		Replicas: w.State.Replicas, Ready: w.State.Ready, State: api.Ready,
	}
	agent, ok := inject.AgentIn(&w.Template.Spec)
	if !ok {
		if inject.Injected(w) {
			out.State = api.LeftBehind
		}
		return out
	}
	out.State, out.AgentImage = api.LeftBehind, agent.Image
	rec, err := inject.ReadRecord(w.Object)
	if err != nil || rec == nil {
		return out
	}
	for _, capture := range rec.Captures {
		out.Capture = append(out.Capture, capture.String())
	}
	agents, err := c.Agents(w)
	if err != nil {
		c.Log().Debug("agents not asked", "workload", w.String(), "err", err)
		return out
	}
	defer agents.Close()
	census := agents.Ask(ctx)
	out.Opaque = census.Opaque()
	for _, o := range rec.Owners {
		holds := census.Holds(o.ID)
		rule := census.Rule(o.ID)
		out.Owners = append(out.Owners, api.WorkloadOwner{
			User: o.User, Host: o.Host, ID: o.ID, Port: o.Number, Protocol: string(o.Protocol), Since: o.Since, Live: holds, Match: spell(rule.Match), Taken: rule.Taken,
			Mirror: rule.Mirror, Dropped: rule.Dropped,
		})
		switch {
		case holds && o.Number != 0:
			out.State = api.Intercepted
		case holds && out.State == api.LeftBehind:
			out.State = api.Mounted
		}
	}
	return out
}
