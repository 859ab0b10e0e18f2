package intercept

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

const (
	// guardLimit bounds one attempt to give Services back after somebody took the
	// agent out.
	guardLimit = 30 * time.Second
	// guardEvery is how long after an attempt that failed the next one comes.
	guardEvery = 5 * time.Second
)

// guard watches the workload until the intercept is to be left. When somebody
// takes the agent of the port out of it (a rollout undo, a GitOps controller),
// Services that lead to the agent by its number would lead nowhere once the new
// pods are there: they are given back at once. What happened is shown by status;
// nobody is fought over it.
func (i *Intercept) guard() {
	given := false // the Services back to the app
	for {
		w, changed := i.agents.Workload()
		i.note(i.notices(w), i.isBeside(w))
		var again <-chan time.Time
		switch {
		case i.capturedIn(w):
			given = false
		case !given:
			if given = i.giveServicesBack(); !given {
				changed, again = nil, time.After(guardEvery)
			}
		}
		select {
		case <-changed:
		case <-again:
		case <-i.wanted.Done():
			return
		}
	}
}

// capturedIn reports whether the workload has an agent that captures the
// intercept's port, or shows the files where these alone are wanted.
func (i *Intercept) capturedIn(w *workload.Workload) bool {
	if i.spec.FilesOnly {
		return w != nil && inject.ShowsFiles(&w.Template.Spec)
	}
	return captures(w, i.target.app())
}

// notices says what others made of the workload; w is nil when it is gone.
func (i *Intercept) notices(w *workload.Workload) string {
	port := i.target.app()
	switch {
	case w == nil:
		return fmt.Sprintf("somebody deleted %s", i.target.Ref)
	case !inject.Injected(w):
		return fmt.Sprintf("somebody took the agent out of %s", w)
	case !i.capturedIn(w) && i.spec.FilesOnly:
		return fmt.Sprintf("somebody took the volumes out of the agent of %s", w)
	case !i.capturedIn(w):
		return fmt.Sprintf("somebody took port %s out of the agent of %s", port, w)
	}
	if name := inject.LostName(w, port); name != "" {
		return fmt.Sprintf("somebody gave the port name %q of %s back to the app (by an apply?), so its traffic goes there; leave and intercept again to have it", name, w)
	}
	return ""
}

// isBeside reports whether somebody else has a rule on the intercept's port: requests of
// his own, or copies.
func (i *Intercept) isBeside(w *workload.Workload) bool {
	if w == nil {
		return false
	}
	owners, err := inject.Owners(w.Object)
	return err != nil || slices.ContainsFunc(owners, func(o inject.Owner) bool { return o.ID != i.id && o.Port == i.target.app() })
}

// giveServicesBack gives the Services back that lead to the port's agent by its
// number, unless it is there again. It reports whether that is done.
func (i *Intercept) giveServicesBack() bool {
	ctx, cancel := context.WithTimeoutCause(i.wanted, guardLimit, fmt.Errorf("not done within %s", guardLimit))
	defer cancel()
	r := &release{cluster: i.cluster, ref: i.target.Ref, takes: func(inject.Owner) bool { return true }}
	err := r.persist(ctx, func(ctx context.Context) error {
		w, err := r.read(ctx)
		if err != nil || i.capturedIn(w) {
			return err
		}
		services, err := r.leading(ctx, w)
		if err != nil {
			return err
		}
		if w != nil && inject.Injected(w) {
			services = slices.DeleteFunc(services, func(svc corev1.Service) bool { return !i.ownsPartOf(&svc) })
		}
		return r.services(ctx, w, services)
	})
	switch {
	case ctx.Err() != nil && i.wanted.Err() != nil:
		return false // the undo does it
	case err != nil:
		i.log.Error("Services not given back after the agent was taken out, trying again", "err", err)
		return false
	case !r.switched.IsZero():
		i.log.Warn("the agent was taken out by somebody; the Services lead to the app")
	}
	return true
}

// ownsPartOf reports whether the Service was switched for an intercept of the same
// port, be it another's.
func (i *Intercept) ownsPartOf(svc *corev1.Service) bool {
	owners, err := inject.Owners(svc)
	return err == nil && slices.ContainsFunc(owners, func(o inject.Owner) bool { return o.Port == i.target.app() })
}
