package intercept

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
)

// undo gives the traffic back to the app and takes the agent out if nobody else
// needs it.
func (i *Intercept) undo(ctx context.Context) error {
	if i.agents != nil {
		defer i.agents.Close()
	}
	if i.registration != nil {
		if pods := i.registration.End(ctx); len(pods) > 0 {
			i.log.Warn("agents do not confirm that the intercept has ended", "pods", strings.Join(pods, ", "))
		}
		// Connections that are open end in their own time, beside the undo.
		var draining sync.WaitGroup
		draining.Go(func() { i.handler.Drain(ctx) })
		defer i.registration.Close()
		defer draining.Wait()
		i.progress.emit().Done("traffic of " + i.target.String() + " goes to the app")
	}
	if !i.recorded {
		return nil
	}
	r := &release{
		cluster: i.cluster, ref: i.target.Ref, agents: i.agents, progress: i.progress.emit(),
		takes: func(o inject.Owner) bool { return o.ID == i.id && o.Session == i.owner.Session },
	}
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("leave %s: %w", i.target.Ref, err)
	}
	return nil
}
