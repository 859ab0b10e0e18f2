package session

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
)

// guardLimit bounds giving Services back after somebody took the agent out.
const guardLimit = 30 * time.Second

// guard watches the intercepted Deployment. When somebody takes the agent out
// of it (a rollout undo, a GitOps controller), Services that lead to the agent
// by its number would lead nowhere once the new pods are there: they are given
// back at once. What happened is shown by status; nobody is fought over it.
func (s *Session) guard(f *follower, i *intercept) error {
	name := i.target.workload
	factory := informers.NewSharedInformerFactoryWithOptions(s.client, 0,
		informers.WithNamespace(s.cfg.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
		}))
	changed := make(chan *appsv1.Deployment, 1)
	see := func(obj any) {
		dep, ok := obj.(*appsv1.Deployment)
		if !ok {
			return
		}
		select {
		case <-changed: // only the newest counts
		default:
		}
		changed <- dep
	}
	informer := factory.Apps().V1().Deployments().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    see,
		UpdateFunc: func(_, obj any) { see(obj) },
	}); err != nil {
		return fmt.Errorf("watch deployment %s: %w", name, err)
	}
	f.wg.Go(func() {
		factory.Start(f.ctx.Done())
		defer factory.Shutdown()
		for {
			select {
			case <-f.ctx.Done():
				return
			case dep := <-changed:
				s.judge(f, i, dep)
			}
		}
	})
	return nil
}

// lostName is the notice about a port name that others gave back to the app.
func lostName(dep *appsv1.Deployment, port uint16) string {
	name := inject.LostName(dep, port)
	if name == "" {
		return ""
	}
	return fmt.Sprintf("somebody gave the port name %q of deployment/%s back to the app (by an apply?), so its traffic goes there; leave and intercept again to have it", name, dep.Name)
}

// judge looks at what others made of the Deployment.
func (s *Session) judge(f *follower, i *intercept, dep *appsv1.Deployment) {
	if f.isLeaving() {
		return
	}
	if inject.Injected(dep) {
		i.setNotice(lostName(dep, i.target.port.Number))
		return
	}
	i.setNotice("somebody took the agent out of deployment/" + dep.Name)
	ctx, cancel := context.WithTimeoutCause(f.ctx, guardLimit, fmt.Errorf("not done within %s", guardLimit))
	defer cancel()
	everybody := func(inject.Owner) bool { return true }
	if err := s.releaseServices(ctx, dep.Name, everybody, dep, nil); err != nil {
		f.log.Error("services not given back after the agent was taken out", "err", err)
		return
	}
	f.log.Warn("the agent was taken out by somebody; the Services lead to the app")
}
