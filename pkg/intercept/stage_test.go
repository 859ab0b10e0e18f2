package intercept

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	clienttesting "k8s.io/client-go/testing"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

const (
	shop  = "shop"
	store = "store"
)

var (
	deployments = appsv1.SchemeGroupVersion.WithResource("deployments")
	replicaSets = appsv1.SchemeGroupVersion.WithResource("replicasets")
	podsOf      = corev1.SchemeGroupVersion.WithResource("pods")
	jobs        = batchv1.SchemeGroupVersion.WithResource("jobs")
	services    = corev1.SchemeGroupVersion.WithResource("services")
)

// stage is a namespace with Deployment store, two pods, and two Services that lead
// to its ports 8080 and 9090 by number. Patches are the API server's: conditional
// on the resource version. The Deployment controller, the kubelets and the agents
// are the stage's own, in the test's time.
type stage struct {
	t       *testing.T
	client  *fake.Clientset
	tracker clienttesting.ObjectTracker
	before  string // what must be there again in the end

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{}

	mu       sync.Mutex
	version  int
	users    []*user
	agents   map[string]*testAgent
	proxy    map[string]int32 // what the nodes make of a Service: its target port
	stuck    bool             // the nodes follow no Service any more
	features []agent.Feature  // of new agents
	spoilt   bool             // somebody else took an agent out from under a Service
	slow     time.Duration    // how much longer new pods take to come
}

func newStage(t *testing.T) *stage {
	// The tracker of fake.NewClientset keeps managed fields, which takes most of
	// the time and is of no use here.
	tracker := clienttesting.NewObjectTracker(scheme.Scheme, scheme.Codecs.UniversalDecoder())
	s := &stage{t: t, client: &fake.Clientset{}, tracker: tracker, wake: make(chan struct{}, 1), agents: map[string]*testAgent{}, features: []agent.Feature{agent.FeatureProbe, agent.FeatureMatch, agent.FeatureFiles, agent.FeatureReaders}, proxy: map[string]int32{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.client.AddReactor("*", "*", clienttesting.ObjectReaction(tracker))
	s.client.AddWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		w, err := tracker.Watch(a.GetResource(), a.GetNamespace())
		return true, w, err
	})
	s.client.PrependReactor("patch", "*", s.patch)
	s.client.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		return true, a.(clienttesting.CreateAction).GetObject(), nil // a dry run: nothing is made
	})
	s.add(services, service("web", "192.0.2.80", 8080))
	s.add(services, service("admin", "192.0.2.81", 9090))
	s.add(deployments, deployment())
	s.wg.Go(s.control)
	s.poke()
	s.await("store is there", func() bool { return !workload.Deployments{}.View(s.deployment()).State.Rolling() })
	s.before = s.state()
	return s
}

// close ends the stage's own processes.
func (s *stage) close() {
	s.cancel()
	s.wg.Wait()
	for _, a := range s.agents {
		a.stop()
	}
}

func service(name, ip string, target int32) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: shop},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": store}, ClusterIP: ip, ClusterIPs: []string{ip},
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(target), Protocol: corev1.ProtocolTCP}},
		},
	}
}

func deployment() *appsv1.Deployment {
	labels := map[string]string{"app": store}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: store, Namespace: shop, UID: "store-uid", Generation: 1},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "app", Image: "example.com/store:1",
					Ports: []corev1.ContainerPort{{ContainerPort: 8080, Protocol: corev1.ProtocolTCP}, {ContainerPort: 9090, Protocol: corev1.ProtocolTCP}},
				}}},
			},
		},
	}
}

// object is what the stage keeps.
type object interface {
	metav1.Object
	runtime.Object
}

func (s *stage) next() string {
	s.version++
	return strconv.Itoa(s.version)
}

func (s *stage) add(gvr schema.GroupVersionResource, obj object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	obj.SetResourceVersion(s.next())
	if err := s.tracker.Create(gvr, obj, shop); err != nil {
		s.t.Error(err)
	}
}

// modify changes an object as somebody other than those under test would; it does
// nothing when the object is gone.
func (s *stage) modify(gvr schema.GroupVersionResource, name string, change func(object)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, err := s.tracker.Get(gvr, shop, name)
	if err != nil {
		return
	}
	obj := have.DeepCopyObject().(object)
	change(obj)
	obj.SetResourceVersion(s.next())
	if err := s.tracker.Update(gvr, obj, shop); err != nil {
		s.t.Error(err)
	}
}

func (s *stage) get(gvr schema.GroupVersionResource, name string) object {
	obj, err := s.tracker.Get(gvr, shop, name)
	if err != nil {
		s.t.Errorf("read %s %s: %v", gvr.Resource, name, err)
		return nil
	}
	return obj.DeepCopyObject().(object)
}

func (s *stage) deployment() *appsv1.Deployment {
	return s.get(deployments, store).(*appsv1.Deployment)
}

// patch is what the API server makes of a strategic merge patch.
func (s *stage) patch(action clienttesting.Action) (bool, runtime.Object, error) {
	p := action.(clienttesting.PatchAction)
	s.mu.Lock()
	defer s.mu.Unlock()
	have, err := s.tracker.Get(p.GetResource(), shop, p.GetName())
	if err != nil {
		return true, nil, err
	}
	var doc map[string]any
	if err := json.Unmarshal(p.GetPatch(), &doc); err != nil {
		return true, nil, err
	}
	now := have.(object)
	if p.GetPatchType() != types.StrategicMergePatchType {
		s.t.Errorf("patch of %s is of type %s: %s", p.GetName(), p.GetPatchType(), p.GetPatch())
	}
	metadata, _ := doc["metadata"].(map[string]any)
	if version := metadata["resourceVersion"]; version != nil && version != now.GetResourceVersion() {
		return true, nil, apierrors.NewConflict(p.GetResource().GroupResource(), p.GetName(), errors.New("it has been modified"))
	}
	from, err := json.Marshal(now)
	if err != nil {
		return true, nil, err
	}
	merged, err := strategicpatch.StrategicMergePatch(from, p.GetPatch(), now)
	if err != nil {
		return true, nil, err
	}
	var out object = &corev1.Service{}
	if _, ok := now.(*appsv1.Deployment); ok {
		out = &appsv1.Deployment{}
	}
	if err := json.Unmarshal(merged, out); err != nil {
		return true, nil, err
	}
	out.SetResourceVersion(s.next())
	if dep, ok := out.(*appsv1.Deployment); ok && !equality.Semantic.DeepEqual(dep.Spec, now.(*appsv1.Deployment).Spec) {
		dep.Generation++
	}
	if err := s.tracker.Update(p.GetResource(), out, shop); err != nil {
		return true, nil, err
	}
	s.noOutage()
	s.poke()
	if _, ok := out.(*corev1.Service); ok {
		s.wg.Go(func() { s.follow(out.GetName()) })
	}
	return true, out, nil
}

// followAfter is how long the nodes take to follow a Service.
const followAfter = 1200 * time.Millisecond

// follow is kube-proxy.
func (s *stage) follow(name string) {
	s.sleep(followAfter)
	s.mu.Lock()
	defer s.mu.Unlock()
	obj, err := s.tracker.Get(services, shop, name)
	if svc, ok := obj.(*corev1.Service); ok && err == nil && !s.stuck {
		s.proxy[svc.Spec.ClusterIP+":80"] = svc.Spec.Ports[0].TargetPort.IntVal
	}
}

// app returns the app's port for which an agent stands to whom the nodes lead an
// address; 0 if they lead it to the app.
func (s *stage) app(address string) (none agent.Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dep, err := s.tracker.Get(deployments, shop, store)
	if err != nil {
		return none
	}
	for _, c := range inject.CapturesIn(workload.Deployments{}.View(dep.(*appsv1.Deployment))) {
		if int32(c.Listen) == s.proxy[address] {
			return c.Port()
		}
	}
	return none
}

// noOutage fails the test if a Service leads to an agent that the Deployment does
// not have, or if the nodes still lead one there.
func (s *stage) noOutage() {
	dep, err := s.tracker.Get(deployments, shop, store)
	if err != nil {
		return
	}
	listens := map[int32]bool{8080: true, 9090: true}
	for _, c := range inject.CapturesIn(workload.Deployments{}.View(dep.(*appsv1.Deployment))) {
		listens[int32(c.Listen)] = true
	}
	for _, name := range []string{"web", "admin"} {
		svc, err := s.tracker.Get(services, shop, name)
		if err != nil {
			continue
		}
		for _, p := range svc.(*corev1.Service).Spec.Ports {
			if !listens[p.TargetPort.IntVal] {
				s.t.Errorf("outage: service/%s leads to port %s, on which nothing listens", name, p.TargetPort.String())
			}
		}
	}
	for address, port := range s.proxy {
		if !listens[port] && !s.spoilt {
			s.t.Errorf("outage: the nodes lead %s to port %d still, on which nothing will listen", address, port)
		}
	}
}

func (s *stage) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// dial reaches the agent of a pod.
func (s *stage) dial(_ context.Context, pod string, _ uint16) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.agents[pod]; a != nil {
		return a.dial(), nil
	}
	return nil, fmt.Errorf("pod %s has no agent", pod)
}

// state is what an intercept must leave as it was.
func (s *stage) state() string {
	dep := s.deployment()
	delete(dep.Annotations, revisionKey)
	out := []any{dep.Spec, dep.Annotations}
	for _, name := range []string{"web", "admin"} {
		svc := s.get(services, name).(*corev1.Service)
		out = append(out, svc.Spec, svc.Annotations)
	}
	text, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		s.t.Error(err)
	}
	return string(text)
}

// asBefore fails the test unless everything is as it was, and nothing of ours is
// left.
func (s *stage) asBefore() {
	s.t.Helper()
	if now := s.state(); now != s.before {
		s.t.Errorf("not as it was:\n%s\nbut before:\n%s", now, s.before)
		for _, u := range s.users {
			s.t.Logf("%s was told: %s", u.cluster.Owner().User, strings.Join(u.told(), "; "))
		}
	}
	for _, set := range s.sets() {
		if _, ours := inject.AgentIn(&set.Spec.Template.Spec); ours {
			s.t.Errorf("replicaset/%s with an agent is left", set.Name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.agents) > 0 {
		s.t.Errorf("agents are left in %v", slices.Collect(maps.Keys(s.agents)))
	}
}

// await waits until something holds.
func (s *stage) await(what string, holds func() bool) {
	s.t.Helper()
	for range 1000 {
		if holds() {
			return
		}
		s.sleep(100 * time.Millisecond)
	}
	s.t.Fatalf("not within 100 s: %s", what)
}

// user is somebody with a laptop, whose calls can be disturbed.
type user struct {
	*Intercepts
	api   *hooked
	stage *stage
	// refuse says whether the agent of a pod is not reached; nil: all are.
	refuse func(pod string) bool

	mu    sync.Mutex
	log   []string   // what was said
	away  bool       // no agent is reached
	conns []net.Conn // to agents
}

func (s *stage) user(name string) *user {
	u := &user{stage: s, api: &hooked{Interface: s.client, before: func(string) error { return nil }}}
	c, err := cluster.New(cluster.Config{
		Namespace: shop, Owner: agent.Owner{User: name, Host: "laptop", Session: name},
		Client: u.api, Dial: u.dial,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	u.Intercepts = New(c)
	s.users = append(s.users, u)
	return u
}

// begin intercepts a port of store.
func (u *user) begin(ctx context.Context, port string) error {
	_, err := u.Begin(ctx, api.InterceptSpec{Workload: store, Ports: []api.PortSpec{{Port: port, Handler: "localhost:1"}}, Lazy: true, AgentImage: "example.com/agent:1", Timeout: time.Minute}, u.hear)
	return err
}

func (u *user) dial(ctx context.Context, pod string, port uint16) (net.Conn, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.away || u.refuse != nil && u.refuse(pod) {
		return nil, errors.New("the network is away")
	}
	conn, err := u.stage.dial(ctx, pod, port)
	if err == nil {
		u.conns = append(u.conns, conn)
	}
	return conn, err
}

// goAway cuts the user off the agents, until comeBack.
func (u *user) goAway() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.away = true
	for _, conn := range u.conns {
		_ = conn.Close()
	}
	u.conns = nil
}

func (u *user) comeBack() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.away = false
}

func (u *user) hear(e api.Event) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.log = append(u.log, e.Text)
}

// told returns what was said.
func (u *user) told() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.log)
}

// agentsOf returns the agents of store as the user sees them; the test closes them.
func (u *user) agentsOf(t *testing.T, s *stage) *cluster.Agents {
	a, err := u.cluster.Agents(workload.Deployments{}.View(s.deployment()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}
