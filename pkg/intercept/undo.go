package intercept

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
)

// undo gives the traffic back to the app and takes the agent out if nobody else
// needs it.
func (i *Intercept) undo(ctx context.Context) error {
	if i.agents != nil {
		defer i.agents.Close()
	}
	if i.registration != nil {
		told := func(p api.Progress) { p.Done("traffic of " + i.target.String() + " goes to the app") }
		pods := i.registration.End(ctx)
		switch {
		case i.spec.FilesOnly:
			told = func(p api.Progress) { p.Done(i.target.String() + " are taken away") }
		case len(pods) > 0:
			told = func(p api.Progress) {
				p.Warn(fmt.Sprintf("traffic of %s goes to the app, at the latest when the agents in these pods, which do not answer, miss this session: %s", i.target, strings.Join(pods, ", ")))
			}
		}
		i.hideFiles()
		// Connections that are open end in their own time, beside the undo.
		var draining sync.WaitGroup
		draining.Go(func() { i.handler.Drain(ctx) })
		defer i.registration.Close()
		defer draining.Wait()
		select {
		case <-i.begun:
			told(i.progress.emit())
		default: // it may be another's who was there before
		}
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
