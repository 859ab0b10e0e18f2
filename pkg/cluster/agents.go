package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Agents follows one workload, its pods and the agents in them: one watch and one
// tunnel a pod, shared by all who need them in this process. Its methods may be
// called concurrently.
type Agents struct {
	cluster *Cluster
	ref     workload.Ref
	log     *slog.Logger

	ctx    context.Context // ends with the last user
	cancel context.CancelFunc
	wg     sync.WaitGroup
	synced chan struct{} // closed when all pods of the start have been seen

	users int // guarded by Cluster.mu

	mu            sync.Mutex
	workload      *workload.Workload // as seen last; nil when it is gone
	keys          map[string]bool    // of the agents that the workload's template has had
	pods          map[types.UID]*podLink
	strangers     map[types.UID]*corev1.Pod // pods whose agents have none of the keys
	gone          map[types.UID]bool        // pods that have ended, or are being deleted
	registrations map[string]*Registration
	observers     map[*observer]bool
	changed       chan struct{} // closed at the next change of anything above
}

// podLink is a pod of the workload whose agent has been started.
type podLink struct {
	uid        types.UID
	name, node string
	link       *Link
	cancel     context.CancelFunc
	ending     bool // the pod is being deleted
}

// Agents returns the agents of a workload that carries some. The caller closes
// what it got; the watches and tunnels end with the last who has them.
func (c *Cluster) Agents(w *workload.Workload) (*Agents, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	uid := w.Object.GetUID()
	a := c.agents[uid]
	if a == nil {
		var err error
		if a, err = c.follow(w); err != nil {
			return nil, err
		}
		c.agents[uid] = a
	}
	a.users++
	a.learn(w)
	return a, nil
}

// Close gives the agents up. Whoever closes them last waits for all that belongs
// to them.
func (a *Agents) Close() {
	a.cluster.mu.Lock()
	a.users--
	last := a.users == 0
	if last {
		for uid, have := range a.cluster.agents {
			if have == a {
				delete(a.cluster.agents, uid)
			}
		}
	}
	a.cluster.mu.Unlock()
	if last {
		a.cancel()
		a.wg.Wait()
	}
}

// follow starts to follow a workload.
func (c *Cluster) follow(w *workload.Workload) (*Agents, error) {
	selector, err := metav1.LabelSelectorAsSelector(w.Selector)
	if err != nil {
		return nil, fmt.Errorf("selector of %s: %w", w, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &Agents{
		cluster: c, ref: w.Ref, log: c.Log().With("workload", w.String()),
		ctx: ctx, cancel: cancel, synced: make(chan struct{}),
		keys: map[string]bool{}, pods: map[types.UID]*podLink{}, strangers: map[types.UID]*corev1.Pod{}, gone: map[types.UID]bool{}, registrations: map[string]*Registration{},
		observers: map[*observer]bool{}, changed: make(chan struct{}),
	}
	a.wg.Go(func() {
		named := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, w.Name).String()}
		c.Watch(ctx, Objects(w.Kind.Store(c.Client(), c.Namespace()), named), w.Object, Watcher{
			Seen: func(obj runtime.Object, deleted bool) { a.seeWorkload(w.Kind, obj, deleted) },
		})
	})
	a.wg.Go(func() {
		selected := metav1.ListOptions{LabelSelector: selector.String()}
		c.Watch(ctx, Objects(c.Client().CoreV1().Pods(c.Namespace()), selected), &corev1.Pod{}, Watcher{
			Seen:   a.seePod,
			Synced: func() { close(a.synced) },
		})
	})
	return a, nil
}

// seeWorkload notes the workload as it is now.
func (a *Agents) seeWorkload(kind workload.Kind, obj runtime.Object, deleted bool) {
	if obj, ok := obj.(workload.Object); ok && !deleted {
		a.learn(kind.View(obj))
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.workload = nil
	a.announce()
}

// learn notes a newer state of the workload, and the key of its agents.
func (a *Agents) learn(w *workload.Workload) {
	a.mu.Lock()
	defer a.mu.Unlock()
	// A watch may begin with what a cache still has.
	if have := a.workload; have == nil || have.Object.GetUID() != w.Object.GetUID() || have.Object.GetGeneration() <= w.Object.GetGeneration() {
		a.workload = w
		a.announce()
	}
	agent, ok := inject.AgentIn(&w.Template.Spec)
	if !ok || a.keys[string(agent.Key)] {
		return
	}
	a.keys[string(agent.Key)] = true
	for _, pod := range a.strangers {
		a.meet(pod)
	}
}

// seePod starts a tunnel to the agent of a pod as soon as the agent runs, and
// ends it when the pod is gone.
func (a *Agents) seePod(obj runtime.Object, deleted bool) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.announce()
	if deleted || ended(pod) || pod.DeletionTimestamp != nil {
		a.gone[pod.UID] = true
	}
	if deleted || ended(pod) {
		a.forget(pod)
		return
	}
	a.meet(pod)
}

// meet is seePod for a pod that is there; a.mu is held. A pod of another workload that the
// selector selects too has an agent with a key that this workload never had.
func (a *Agents) meet(pod *corev1.Pod) {
	if p := a.pods[pod.UID]; p != nil {
		p.ending = pod.DeletionTimestamp != nil
		return
	}
	agent, ok := inject.AgentIn(&pod.Spec)
	if !ok || !AgentStarted(pod) || a.ctx.Err() != nil {
		return
	}
	if !a.keys[string(agent.Key)] {
		a.strangers[pod.UID] = pod
		return
	}
	delete(a.strangers, pod.UID)
	ctx, cancel := context.WithCancel(a.ctx)
	p := &podLink{uid: pod.UID, name: pod.Name, node: pod.Spec.NodeName, cancel: cancel, ending: pod.DeletionTimestamp != nil}
	p.link = a.cluster.NewLink(LinkConfig{
		Pod: pod.Name, Port: agent.ControlPort, Key: agent.Key, Use: a.ref.Name,
		Serve: func(ctx context.Context, t *tunnel.Tunnel) { a.serve(ctx, p, t) },
	})
	a.pods[pod.UID] = p
	a.wg.Go(func() {
		err := p.link.Run(ctx)
		a.log.Debug("agent left", "pod", p.name, "err", err)
	})
}

// forget is seePod for a pod that is gone; a.mu is held.
func (a *Agents) forget(pod *corev1.Pod) {
	delete(a.strangers, pod.UID)
	p := a.pods[pod.UID]
	if p == nil {
		return
	}
	p.cancel()
	delete(a.pods, pod.UID)
	for _, r := range a.registrations {
		delete(r.held, p)
	}
}

// serve keeps registrations and watches in force at one agent while its tunnel lives,
// and hands what the agent captures to them.
func (a *Agents) serve(ctx context.Context, p *podLink, t *tunnel.Tunnel) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = t.Close() }()
	defer cancel()
	wg.Go(func() { a.dispatch(ctx, t) })
	kept, watched := map[*Registration]bool{}, map[*observer]bool{}
	for {
		a.mu.Lock()
		changed := a.changed
		for _, r := range a.registrations {
			if !kept[r] {
				kept[r] = true
				wg.Go(func() { r.keep(ctx, p, t) })
			}
		}
		for w := range a.observers {
			if !watched[w] {
				watched[w] = true
				w.serving.Add(1)
				wg.Go(func() {
					defer w.serving.Done()
					w.keep(ctx, p, t)
				})
			}
		}
		a.mu.Unlock()
		select {
		case <-changed:
		case <-t.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// dispatch hands each captured connection to the registration that it is for.
func (a *Agents) dispatch(ctx context.Context, t *tunnel.Tunnel) {
	for {
		req, err := t.AcceptFlow(ctx)
		if err != nil {
			return
		}
		target := req.Target()
		a.mu.Lock()
		r := a.registrations[target.Address]
		if target.Network != api.NetworkIntercept && target.Network != api.NetworkDatagrams {
			r = nil
		}
		taken := r != nil && r.take()
		a.mu.Unlock()
		if !taken {
			_ = req.Refuse(tunnel.Denied, "not an intercept of this session")
			continue
		}
		go func() {
			defer r.serving.Done()
			r.serve(r.ctx, req)
		}()
	}
}

// Workload returns the workload as it was seen last, nil when it is gone, and a
// channel that is closed when anything about it, its pods or its agents has
// changed.
func (a *Agents) Workload() (*workload.Workload, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.workload, a.changed
}

// Changed returns the channel that Workload returns.
func (a *Agents) Changed() <-chan struct{} {
	_, changed := a.Workload()
	return changed
}

// announce wakes all who wait for a change; a.mu is held.
func (a *Agents) announce() {
	close(a.changed)
	a.changed = make(chan struct{})
}
