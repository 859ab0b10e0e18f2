package session

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
)

const (
	// quietFor is how long no agent may have seen a new connection before the
	// agents are taken away from under a Service that has been switched back:
	// kube-proxy on every node takes a moment to follow.
	quietFor = 5 * time.Second
	// quietLimit bounds waiting for that.
	quietLimit = time.Minute
	quietEvery = 500 * time.Millisecond
	// registerGrace is how long an intercept may take to register with an agent
	// that listens.
	registerGrace = 10 * time.Second
	// rolloutGrace is how long it may wait for the first such agent.
	rolloutGrace = 3 * time.Minute
)

// leave takes an intercept back, and the agent with it if nobody else needs
// it. Callers after the first wait for the first.
func (s *Session) leave(ctx context.Context, i *intercept, p Progress) error {
	i.leaveOnce.Do(func() {
		defer close(i.left)
		i.setState(Leaving)
		i.leaveErr = s.leaveNow(ctx, i, p)
		s.mu.Lock()
		delete(s.intercepts, i.id)
		s.mu.Unlock()
	})
	<-i.left
	return i.leaveErr
}

func (s *Session) leaveNow(ctx context.Context, i *intercept, p Progress) error {
	i.mu.Lock()
	f, recorded := i.following, i.recorded
	i.mu.Unlock()
	infos := func(context.Context) []api.Info { return nil }
	if f != nil {
		f.unregister(ctx)
		// Connections that are open end in their own time, beside the undo.
		var draining sync.WaitGroup
		draining.Go(func() { f.conns.drain(ctx) })
		defer f.close()
		defer draining.Wait()
		p.done("traffic of " + i.target.String() + " goes to the app")
		infos = f.infos
	}
	if !recorded {
		return nil
	}
	now := infos(ctx)
	live := liveIn(now)
	mine := func(dep *appsv1.Deployment, o inject.Owner) bool {
		return o.ID == i.id && o.Session == i.owner.Session || !live[o.ID] && !starting(dep, o, now)
	}
	err := s.release(ctx, i.target.workload, mine, infos, p)
	if err != nil {
		return fmt.Errorf("leave deployment/%s: %w", i.target.workload, err)
	}
	return nil
}

// starting says whether an owner who is not registered with these agents may be
// on the way: who waits for a rollout registers with the first of its agents.
func starting(dep *appsv1.Deployment, o inject.Owner, infos []api.Info) bool {
	since := time.Since(o.Since)
	waited := slices.ContainsFunc(infos, func(info api.Info) bool { return info.UpSeconds >= registerGrace.Seconds() })
	return since < registerGrace || rolling(dep) && since < rolloutGrace && !waited
}

// release removes the owners that are gone from a workload's records and, when
// none is left, puts the workload back: the Services first, then, when no new
// connection reaches the agents any more, the Deployment.
func (c *Cluster) release(ctx context.Context, name string, gone func(*appsv1.Deployment, inject.Owner) bool, infos func(context.Context) []api.Info, p Progress) error {
	dep, err := c.client.AppsV1().Deployments(c.namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return c.releaseServices(ctx, name, func(inject.Owner) bool { return true }, nil, p)
	}
	if err != nil {
		return fmt.Errorf("read deployment/%s: %w", name, err)
	}
	goneNow := func(o inject.Owner) bool { return gone(dep, o) }
	// A record that cannot be read names nobody to keep the agent for.
	owners, _ := inject.Owners(dep)
	if !slices.ContainsFunc(owners, func(o inject.Owner) bool { return !goneNow(o) }) {
		switched, err := c.switchedServices(ctx, name)
		if err != nil {
			return err
		}
		if err := c.releaseServices(ctx, name, goneNow, dep, p); err != nil {
			return err
		}
		if len(switched) > 0 {
			p.doing("waiting until no new connection reaches the agents")
			waitQuiet(ctx, infos, namedIn(dep))
		}
	}
	return c.releaseDeployment(ctx, name, goneNow, p)
}

// switchedServices names the Services that lead to the workload's agents.
func (c *Cluster) switchedServices(ctx context.Context, name string) ([]string, error) {
	found, err := inject.Find(ctx, c.client, c.namespace)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range found {
		if l.Service == nil {
			continue
		}
		if l.Record == nil || l.Record.Workload == "deployment/"+name {
			names = append(names, l.Name)
		}
	}
	return names, nil
}

func (c *Cluster) releaseServices(ctx context.Context, name string, gone func(inject.Owner) bool, dep *appsv1.Deployment, p Progress) error {
	names, err := c.switchedServices(ctx, name)
	if err != nil {
		return err
	}
	var known []inject.Capture
	if dep != nil {
		if a, ok := inject.AgentIn(&dep.Spec.Template.Spec); ok {
			known = a.Captures
		}
	}
	for _, svc := range names {
		var leftovers []string
		undone := false
		_, err := inject.RetryService(ctx, c.client, c.namespace, svc, func(now *corev1.Service) (*corev1.Service, error) {
			if owners, err := inject.Owners(now); err == nil && slices.ContainsFunc(owners, func(o inject.Owner) bool { return !gone(o) }) {
				return withoutOwners(now, owners, gone)
			}
			undone = true
			out, left, err := inject.UndoService(now, known...)
			leftovers = left
			return out, err
		})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if undone {
			p.done("service/" + svc + " leads to the app again")
		}
		for _, l := range leftovers {
			p.warn(l)
		}
	}
	return nil
}

func (c *Cluster) releaseDeployment(ctx context.Context, name string, gone func(inject.Owner) bool, p Progress) error {
	var leftovers []string
	var undone, restarts bool
	dep, err := inject.RetryDeployment(ctx, c.client, c.namespace, name, func(now *appsv1.Deployment) (*appsv1.Deployment, error) {
		undone, restarts, leftovers = false, false, nil
		owners, err := inject.Owners(now)
		if err == nil && slices.ContainsFunc(owners, func(o inject.Owner) bool { return !gone(o) }) {
			return withoutOwners(now, owners, gone)
		}
		out, left, err := inject.Undo(now)
		if err != nil {
			return nil, err
		}
		undone, restarts, leftovers = true, inject.Restarts(now, out), left
		return out, nil
	})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	case !undone:
		p.done("others intercept deployment/" + name + ": its agent stays for them")
		return nil
	}
	for _, l := range leftovers {
		p.warn(l)
	}
	if restarts {
		p.doing("rolling update of deployment/" + name)
		if err := c.waitRollout(ctx, name, dep.Generation, p); err != nil {
			return fmt.Errorf("the agent is taken out of deployment/%s, but: %w", name, err)
		}
	}
	if _, err := inject.DeleteOwnReplicaSets(ctx, c.client, dep); err != nil {
		return err
	}
	p.done("deployment/" + name + " is as it was")
	return nil
}

// withoutOwners removes the owners that are gone from an object's record.
func withoutOwners[T inject.Object](obj T, owners []inject.Owner, gone func(inject.Owner) bool) (T, error) {
	out := obj
	for _, o := range owners {
		if !gone(o) {
			continue
		}
		next, _, err := inject.RemoveOwner(out, o.Session, o.ID)
		if err != nil {
			return out, err
		}
		out = next
	}
	return out, nil
}

// namedIn are the app's ports whose names lead to the agent as well: other
// Services go on sending it connections until its pods are replaced, which
// they are without a gap.
func namedIn(dep *appsv1.Deployment) map[uint16]bool {
	named := map[uint16]bool{}
	if a, ok := inject.AgentIn(&dep.Spec.Template.Spec); ok {
		for _, capture := range a.Captures {
			named[capture.App] = capture.Name != ""
		}
	}
	return named
}

// waitQuiet returns when no agent has seen a new connection for quietFor, but
// for those to the named ports, or after quietLimit: what still comes then will
// not stop by itself.
func waitQuiet(ctx context.Context, infos func(context.Context) []api.Info, named map[uint16]bool) {
	busy := func(info api.Info) bool { return busy(info, named) }
	ctx, cancel := context.WithTimeout(ctx, quietLimit)
	defer cancel()
	// Without agents to ask, the time itself has to do.
	earliest := time.Now().Add(quietFor)
	for {
		select {
		case <-time.After(quietEvery):
		case <-ctx.Done():
			return
		}
		if time.Now().After(earliest) && !slices.ContainsFunc(infos(ctx), busy) {
			return
		}
	}
}

// busy says whether an agent saw a new connection lately.
func busy(info api.Info, named map[uint16]bool) bool {
	return slices.ContainsFunc(info.Captures, func(c api.CaptureInfo) bool {
		return !named[c.App] && c.IdleSeconds >= 0 && c.IdleSeconds < quietFor.Seconds()
	})
}
