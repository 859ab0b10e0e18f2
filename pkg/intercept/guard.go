package intercept

import (
	"context"
	"fmt"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// guardLimit bounds giving Services back after somebody took the agent out.
const guardLimit = 30 * time.Second

// guard watches the workload until the intercept is to be left. When somebody
// takes the agent out of it (a rollout undo, a GitOps controller), Services that
// lead to the agent by its number would lead nowhere once the new pods are there:
// they are given back at once. What happened is shown by status; nobody is fought
// over it.
func (i *Intercept) guard() {
	for {
		w, changed := i.agents.Workload()
		i.look(w)
		select {
		case <-changed:
		case <-i.wanted.Done():
			return
		}
	}
}

// look notes what others made of the workload; w is nil when it is gone.
func (i *Intercept) look(w *workload.Workload) {
	switch {
	case w == nil:
		i.note(fmt.Sprintf("somebody deleted %s", i.target.Ref))
	case inject.Injected(w):
		i.note(lostName(w, i.target.port.Number))
	default:
		text := "somebody took the agent out of " + w.String()
		i.mu.Lock()
		known := i.notice == text
		i.mu.Unlock()
		if known {
			return
		}
		i.note(text)
		i.giveServicesBack(w)
	}
}

// lostName is the notice about a port name that others gave back to the app.
func lostName(w *workload.Workload, port uint16) string {
	name := inject.LostName(w, port)
	if name == "" {
		return ""
	}
	return fmt.Sprintf("somebody gave the port name %q of %s back to the app (by an apply?), so its traffic goes there; leave and intercept again to have it", name, w)
}

func (i *Intercept) giveServicesBack(w *workload.Workload) {
	ctx, cancel := context.WithTimeoutCause(i.wanted, guardLimit, fmt.Errorf("not done within %s", guardLimit))
	defer cancel()
	r := &release{cluster: i.cluster, ref: w.Ref, takes: func(inject.Owner) bool { return true }}
	if err := r.persist(ctx, func(ctx context.Context) error {
		leading, err := r.leading(ctx, w)
		if err != nil {
			return err
		}
		return r.services(ctx, w, leading)
	}); err != nil {
		i.log.Error("services not given back after the agent was taken out", "err", err)
		return
	}
	i.log.Warn("the agent was taken out by somebody; the Services lead to the app")
}
