package intercept

import (
	"context"
	"slices"
	"time"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/poll"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

const (
	// quietFor is how long no agent may have seen a new connection before the
	// agents are taken away from under a Service that has been switched back:
	// kube-proxy on every node takes a moment to follow.
	quietFor = 5 * time.Second
	// quietLimit bounds waiting for that.
	quietLimit = time.Minute
	quietEvery = 500 * time.Millisecond
)

// namedPorts are the app's ports whose names lead to the agent: other Services go
// on sending it connections until its pods are replaced, which they are without a
// gap.
func namedPorts(w *workload.Workload) map[agent.Port]bool {
	named := map[agent.Port]bool{}
	for _, capture := range inject.CapturesIn(w) {
		named[capture.Port()] = capture.Name != ""
	}
	return named
}

// waitQuiet returns, not before earliest, when no agent has seen a new connection
// for quietFor, but for those to the named ports; or after quietLimit: what still
// comes then will not stop by itself, and an agent that does not tell may never.
// The error is the cause of ctx's end. agents may be nil; then the time itself has
// to do.
func waitQuiet(ctx context.Context, agents *cluster.Agents, named map[agent.Port]bool, earliest time.Time) error {
	limited, cancel := context.WithTimeout(ctx, quietLimit)
	defer cancel()
	_ = poll.Until(limited, quietEvery, func() (bool, error) {
		if time.Now().Before(earliest) {
			return false, nil
		}
		return agents == nil || quiet(agents.Ask(limited), named), nil
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func quiet(census cluster.Census, named map[agent.Port]bool) bool {
	return len(census.Unreached) == 0 &&
		!slices.ContainsFunc(census.Infos, func(info agent.Info) bool { return busy(info, named) })
}

// busy reports whether an agent saw a new connection lately.
func busy(info agent.Info, named map[agent.Port]bool) bool {
	return slices.ContainsFunc(info.Captures, func(c agent.CaptureInfo) bool {
		return !named[c.Port()] && c.IdleSeconds >= 0 && c.IdleSeconds < quietFor.Seconds()
	})
}
