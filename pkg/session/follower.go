package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	intercepts "github.com/kubectl-tele/kubectl-tele/pkg/intercept"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// registerRetry is how long after an agent's refusal it is asked again: the
// port's other owner may leave.
const registerRetry = 2 * time.Second

// follower keeps the intercept in force at every agent of a workload: at those
// that are there and at those that come, with replicas and restarts.
type follower struct {
	session  *Session
	id       string
	handler  intercepts.Handler
	register api.Registration
	log      *slog.Logger

	ctx    context.Context // ends with the follower
	cancel context.CancelFunc
	wg     sync.WaitGroup

	conns  connSet
	failed atomic.Pointer[error] // why the handler was not reached the last time; nil: it was

	mu      sync.Mutex
	pods    map[types.UID]*followed
	leaving bool
	changed chan struct{} // closed at the next change of anything in pods
}

// followed is one agent.
type followed struct {
	pod, node string
	link      *link
	cancel    context.CancelFunc
	flow      *tunnel.Flow // the registration, nil while there is none
	holding   bool         // a registration is asked for, in force, or being taken back
	err       error        // why the last registration was refused
}

// follow starts following the workload's pods.
func (s *Session) follow(i *intercept, selector *metav1.LabelSelector) (*follower, error) {
	labels, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, fmt.Errorf("selector of deployment %s: %w", i.target.workload, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{
		session: s, id: i.id, handler: i.spec.Handler,
		register: api.Registration{ID: i.id, Owner: i.owner, Rules: []api.Rule{{Port: i.target.port.Number, Action: api.Take}}},
		log:      s.log.With("intercept", i.id, "workload", i.target.workload),
		ctx:      ctx, cancel: cancel,
		pods: map[types.UID]*followed{}, changed: make(chan struct{}),
	}
	factory := informers.NewSharedInformerFactoryWithOptions(s.client, 0,
		informers.WithNamespace(s.cfg.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = labels.String() }))
	informer := factory.Core().V1().Pods().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { f.see(obj) },
		UpdateFunc: func(_, obj any) { f.see(obj) },
		DeleteFunc: func(obj any) { f.forget(obj) },
	}); err != nil {
		cancel()
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	f.wg.Go(func() {
		factory.Start(ctx.Done())
		<-ctx.Done()
		factory.Shutdown()
	})
	return f, nil
}

// see starts a link to a pod's agent as soon as it runs.
func (f *follower) see(obj any) {
	pod, ok := obj.(*corev1.Pod)
	if !ok || !agentStarted(pod) {
		return
	}
	access, ok := inject.AgentIn(&pod.Spec)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pods[pod.UID] != nil || f.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(f.ctx)
	fp := &followed{pod: pod.Name, node: pod.Spec.NodeName, cancel: cancel}
	fp.link = f.session.link(pod.Name, access.ControlPort, access.Key, f.id, func(ctx context.Context, t *tunnel.Tunnel) { f.serve(ctx, fp, t) })
	f.pods[pod.UID] = fp
	f.wg.Go(func() {
		err := fp.link.run(ctx)
		f.log.Debug("agent left", "pod", fp.pod, "err", err)
	})
}

// forget ends the link to a pod that is gone.
func (f *follower) forget(obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if fp := f.pods[pod.UID]; fp != nil {
		fp.cancel()
		delete(f.pods, pod.UID)
		f.announce()
	}
}

// serve keeps the registration at one agent while its tunnel lives, and
// answers the connections that the agent captured.
func (f *follower) serve(ctx context.Context, fp *followed, t *tunnel.Tunnel) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = t.Close() }()
	defer cancel()
	wg.Go(func() { f.answer(ctx, t) })
	meta, err := json.Marshal(f.register)
	if err != nil {
		f.log.Error("registration not written", "err", err)
		return
	}
	for {
		f.hold(ctx, fp, t, meta)
		select {
		case <-time.After(registerRetry):
		case <-t.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// hold registers the intercept and returns when that ends or is refused. The
// agent ends the flow when no connection will be offered for it any more.
func (f *follower) hold(ctx context.Context, fp *followed, t *tunnel.Tunnel, meta []byte) {
	if !f.startHolding(fp) {
		return
	}
	flow, err := t.Open(ctx, tunnel.Target{Network: api.NetworkService, Address: api.ServiceRegister, Meta: meta})
	if err != nil {
		f.log.Warn("agent refuses the intercept", "pod", fp.pod, "err", err)
		f.set(fp, nil, false, err)
		return
	}
	f.set(fp, flow, true, nil)
	if f.isLeaving() {
		_ = flow.CloseWrite()
	} else {
		f.log.Info("intercept active", "pod", fp.pod)
	}
	stop := context.AfterFunc(ctx, func() { _ = flow.Close() })
	defer stop()
	_, err = io.Copy(io.Discard, flow)
	_ = flow.Close()
	f.set(fp, nil, false, err)
}

// startHolding says whether an agent may still be asked.
func (f *follower) startHolding(fp *followed) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	fp.holding = !f.leaving
	return fp.holding
}

// answer connects captured connections to the handler until the tunnel ends.
// It takes only connections of this very intercept.
func (f *follower) answer(ctx context.Context, t *tunnel.Tunnel) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		req, err := t.AcceptFlow(ctx)
		if err != nil {
			return
		}
		if target := req.Target(); target.Network != api.NetworkIntercept || target.Address != f.id {
			_ = req.Refuse(tunnel.Denied, "not an intercept of this session")
			continue
		}
		wg.Go(func() { f.connect(ctx, req) })
	}
}

func (f *follower) connect(ctx context.Context, req *tunnel.Request) {
	pair := f.conns.begin()
	defer f.conns.end(pair)
	conn, err := f.handler.Dial(req.Context())
	if err != nil {
		f.failed.Store(&err)
		f.log.Warn("handler not reached, the app answers", "handler", f.handler, "err", err)
		_ = req.Refuse(tunnel.Refused, "the handler does not answer")
		return
	}
	f.failed.Store(nil)
	flow, err := req.Accept()
	if err != nil {
		_ = conn.Close()
		return
	}
	client, handler := f.conns.join(pair, flow, conn)
	if _, err := splice.Splice(ctx, client, handler); err != nil {
		f.log.Debug("connection ended", "err", err)
	}
}

// waitActive returns when the agents of all these pods have the intercept in
// force, or with the first refusal.
func (f *follower) waitActive(ctx context.Context, pods []corev1.Pod) error {
	for {
		missing, changed, err := f.inactive(pods)
		switch {
		case err != nil:
			return err
		case missing == "":
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the agent in pod %s is not reached: %w", missing, context.Cause(ctx))
		}
	}
}

// inactive names a pod whose agent does not have the intercept yet.
func (f *follower) inactive(pods []corev1.Pod) (missing string, changed <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, pod := range pods {
		fp := f.pods[pod.UID]
		var refused *tunnel.RefusedError
		switch {
		case fp != nil && fp.flow != nil:
		case fp != nil && errors.As(fp.err, &refused) && refused.Reason == tunnel.Conflict:
			return "", nil, fp.err
		default:
			missing = pod.Name
		}
	}
	return missing, f.changed, nil
}

// unregisterLimit bounds waiting for agents to confirm that they offer no more
// connections: a round trip, or more on a busy node.
const unregisterLimit = 3 * time.Second

// unregister takes the intercept back at every agent and returns when all have
// confirmed, or after unregisterLimit. Connections that are open go on while
// the links do.
func (f *follower) unregister(ctx context.Context) {
	f.mu.Lock()
	f.leaving = true
	for _, fp := range f.pods {
		if fp.flow != nil {
			_ = fp.flow.CloseWrite()
		}
	}
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, unregisterLimit)
	defer cancel()
	for {
		pod, changed := f.held()
		if pod == "" {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			f.log.Warn("agent does not confirm that the intercept has ended", "pod", pod)
			return
		}
	}
}

// held names a pod whose agent may still offer connections.
func (f *follower) held() (pod string, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fp := range f.pods {
		if fp.holding {
			pod = fp.pod
		}
	}
	return pod, f.changed
}

// infos asks every agent that can be reached.
func (f *follower) infos(ctx context.Context) []api.Info {
	f.mu.Lock()
	links := make([]*link, 0, len(f.pods))
	for _, fp := range f.pods {
		links = append(links, fp.link)
	}
	f.mu.Unlock()
	var out []api.Info
	for _, l := range links {
		t, _ := l.up()
		if t == nil {
			continue
		}
		info, err := askInfo(ctx, t)
		if err != nil {
			f.log.Debug("agent does not tell", "pod", l.pod, "err", err)
			continue
		}
		out = append(out, info)
	}
	return out
}

// close ends every link and waits for all that belongs to the follower.
func (f *follower) close() {
	f.cancel()
	f.wg.Wait()
}

func (f *follower) status() []AgentStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []AgentStatus{}
	for _, fp := range slices.Collect(maps.Values(f.pods)) {
		st := AgentStatus{Pod: fp.pod, Node: fp.node, Inject: "sidecar"}
		fp.link.fill(&st)
		st.Up = st.Up && fp.flow != nil
		if st.Error == "" && fp.err != nil && fp.flow == nil {
			st.Error = fp.err.Error()
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b AgentStatus) int { return strings.Compare(a.Pod, b.Pod) })
	return out
}

func (f *follower) set(fp *followed, flow *tunnel.Flow, holding bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fp.flow, fp.holding, fp.err = flow, holding, err
	f.announce()
}

// announce wakes all who wait for a change; f.mu is held.
func (f *follower) announce() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *follower) isLeaving() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leaving
}
