package inject

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/version"
	discoveryfake "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// newCluster is a cluster that admits every pod, and runs none for a dry run.
func newCluster(objects ...runtime.Object) (Cluster, *fake.Clientset) {
	client := fake.NewClientset(objects...)
	client.Discovery().(*discoveryfake.FakeDiscovery).FakedServerVersion = &version.Info{Major: "1", Minor: "33"}
	admit(client, func(*corev1.Pod) error { return nil })
	return Cluster{Client: client, Kinds: workload.AllKinds(), Namespace: "shop"}, client
}

// admit makes the API server ask judge about pods.
func admit(client *fake.Clientset, judge func(*corev1.Pod) error) {
	client.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		create := a.(clienttesting.CreateActionImpl)
		if len(create.CreateOptions.DryRun) == 0 {
			return true, nil, errors.New("this is no dry run")
		}
		pod := create.GetObject().(*corev1.Pod)
		return true, pod, judge(pod)
	})
}

// shop is a cluster with the fixture's Deployment and its Services.
func shop(t testing.TB, dep *appsv1.Deployment, more ...runtime.Object) (Cluster, *fake.Clientset) {
	t.Helper()
	podLabels := map[string]string{"app": "back"}
	objects := []runtime.Object{
		dep, &appsv1.ReplicaSet{ObjectMeta: ownedBy("back-1", "Deployment", "dep", podLabels)},
		&corev1.Pod{ObjectMeta: ownedBy("back-1-a", "ReplicaSet", "back-1", podLabels)},
	}
	if len(more) == 0 {
		all := services(t)
		more = []runtime.Object{&all[0], &all[1]}
	}
	return newCluster(append(objects, more...)...)
}

// request is bob's, for a port as FindPort reads it.
func request(t testing.TB, c Cluster, ref workload.Ref, port, service string) Request {
	t.Helper()
	w, err := c.Kinds.Get(t.Context(), c.Client, c.Namespace, ref)
	if err != nil {
		t.Fatal(err)
	}
	selecting, err := workload.Selecting(t.Context(), c.Client, c.Namespace, w.Template.Labels)
	if err != nil {
		t.Fatal(err)
	}
	for i := range selecting {
		selecting[i] = *OriginalService(&selecting[i], CapturesIn(w)...)
	}
	found, err := workload.FindPort(Original(w), selecting, port, service)
	if err != nil {
		t.Fatal(err)
	}
	return Request{Target: w, Port: found, Agent: agentOptions(), Owner: bob(found.Number)}
}

func planned(t testing.TB, c Cluster, r Request) *Plan {
	t.Helper()
	plan, err := Choose(t.Context(), c, Methods(), r)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// carryOut makes the changes of a plan in their order. It reports whether pods
// are replaced.
func carryOut(t testing.TB, plan *Plan) (restarts bool) {
	t.Helper()
	for _, change := range plan.Arrivals {
		w, r, err := change.Apply(t.Context())
		if err != nil || w == nil || w.Ref != change.Ref || !Injected(w) {
			t.Fatalf("%s: got %v, %v", change.Ref, w, err)
		}
		restarts = restarts || r
	}
	for _, change := range plan.Switches {
		if w, r, err := change.Apply(t.Context()); err != nil || w != nil || r {
			t.Fatalf("%s: got %v, %v, %v", change.Ref, w, r, err)
		}
	}
	return restarts
}

func refs(changes []Change) string {
	var all []string
	for _, c := range changes {
		all = append(all, c.String())
	}
	return strings.Join(all, " ")
}

// TestPlan plans for a Deployment that nobody has changed, or that alice has, and
// shows that the plan can be carried out and costs what it says.
func TestPlan(t *testing.T) {
	for _, tc := range []struct {
		name          string
		alice         *Capture // what she takes already
		port, service string
		mode          Mode
		text          string
		captures      string
		switches      string
		restarts      int32
	}{
		{name: "both", port: "8080", text: "inject sidecar, capture port-name http and service: one rolling update of 2 pods", captures: "port-name http, service", switches: "service/numeric", restarts: 2},
		{name: "by name", port: "http", service: "back", text: "inject sidecar, capture port-name http: one rolling update of 2 pods", captures: "port-name http", restarts: 2},
		{name: "by number", port: "web", text: "inject sidecar, capture port-name http and service: one", captures: "port-name http, service", switches: "service/numeric", restarts: 2},
		{name: "by number alone", port: "web", service: "numeric", text: "capture service: one", captures: "service", switches: "service/numeric", restarts: 2},
		{name: "named port of a Service with a number", port: "grpc", text: "capture port-name grpc: one", captures: "port-name grpc", restarts: 2},
		{name: "by force", port: "8080", mode: ModeService, text: "capture service: one", captures: "service", switches: "service/back service/numeric", restarts: 2},
		{name: "name by force", port: "http", service: "back", mode: ModePortName, text: "capture port-name http: one", captures: "port-name http", restarts: 2},

		{name: "join", alice: &byBoth, port: "8080", text: "deployment/back has an agent already: joining it", captures: "port-name http, service", switches: "service/numeric"},
		{name: "join by name", alice: &byBoth, port: "http", service: "back", text: "joining it", captures: "port-name http"},
		{name: "join with another Service", alice: &byName, port: "web", service: "numeric", text: "joining it", captures: "service", switches: "service/numeric"},
		{name: "join by force whom has the name", alice: &byName, port: "8080", mode: ModeService, text: "joining it", captures: "service", switches: "service/numeric"},
		{name: "join whom took by force", alice: &byNumber, port: "8080", mode: ModeService, text: "joining it", captures: "service", switches: "service/back service/numeric"},
		{name: "another port", alice: &byName, port: "grpc", text: "inject sidecar, capture port-name grpc: one rolling update of 2 pods", captures: "port-name grpc", restarts: 2},
		{name: "the name of whom took by number", alice: &byNumber, port: "http", service: "back", text: "capture port-name http: one", captures: "port-name http", restarts: 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dep := ready(t)
			all := services(t)
			if tc.alice != nil {
				dep = sidecar(t, dep, specOf(*tc.alice))
				if tc.alice.Service {
					all[1] = *switched(t, &all[1], dep, alice(8080))
				}
			}
			c, client := shop(t, dep, &all[0], &all[1])
			r := request(t, c, backRef, tc.port, tc.service)
			r.Mode = tc.mode
			plan := planned(t, c, r)
			if plan.Target != backRef || plan.Method != "sidecar" || !strings.Contains(plan.String(), tc.text) {
				t.Errorf("got %q, target %s, method %s; want %q", plan, plan.Target, plan.Method, tc.text)
			}
			if got := strings.Join(plan.Captures, ", "); got != tc.captures || plan.Restarts != tc.restarts || plan.Joins != (tc.restarts == 0) {
				t.Errorf("captures %q, restarts %d, joins %v", got, plan.Restarts, plan.Joins)
			}
			if refs(plan.Arrivals) != "deployment/back" || refs(plan.Switches) != tc.switches {
				t.Errorf("arrivals %q, switches %q", refs(plan.Arrivals), refs(plan.Switches))
			}
			if err := plan.Refused(false); err != nil {
				t.Errorf("refused: %v", err)
			}
			rightsAreAskedFor(t, plan)
			onlyReads(t, client)

			if restarts := carryOut(t, plan); restarts != (tc.restarts > 0) {
				t.Errorf("it restarted the pods: %v", restarts)
			}
			for _, change := range plan.Switches {
				if !strings.Contains(change.Done, change.String()+" leads to the agents") {
					t.Errorf("%s says %q when it is done", change.Ref, change.Done)
				}
			}
			leadsToAgent(t, c, r)
		})
	}
}

// leadsToAgent shows that everything that led to the requested port leads to the
// agent now.
func leadsToAgent(t *testing.T, c Cluster, r Request) {
	t.Helper()
	w, err := c.Kinds.Get(t.Context(), c.Client, c.Namespace, r.Target.Ref)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := ReadRecord(w.Object)
	if err != nil || !slices.Contains(rec.Owners, r.Owner) {
		t.Errorf("record %+v, %v", rec, err)
	}
	agent, ok := AgentIn(&w.Template.Spec)
	if !ok || !agent.Native {
		t.Fatalf("agent %+v", agent)
	}
	i := slices.IndexFunc(agent.Captures, func(c Capture) bool { return c.App == r.Port.Number })
	for _, sp := range r.Port.Services {
		svc, err := c.Client.CoreV1().Services(c.Namespace).Get(t.Context(), sp.Service.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range svc.Spec.Ports {
			target := p.TargetPort.StrVal
			if p.Port == sp.Port.Port && p.TargetPort != intstr.FromInt32(int32(agent.Captures[i].Listen)) && (target == "" || !resolvesTo(&w.Template.Spec, target, agent.Captures[i].agentPort())) {
				t.Errorf("service/%s leads to %s, not to the agent's port %d", svc.Name, p.TargetPort.String(), agent.Captures[i].Listen)
			}
		}
	}
}

// rightsAreAskedFor: what a plan needs is what an intercept asks for beforehand.
func rightsAreAskedFor(t *testing.T, plan *Plan) {
	t.Helper()
	needs := access.Needs(access.Intercept)
	for _, right := range plan.Rights {
		if !slices.Contains(needs, right) {
			t.Errorf("the plan needs the right to %s, which nobody asks for", right)
		}
	}
	patchesServices := slices.Contains(plan.Rights, access.Right{Verb: "patch", Resource: "services"})
	if !slices.Contains(plan.Rights, access.Right{Verb: "patch", Group: "apps", Resource: "deployments"}) || len(plan.Switches) > 0 && !patchesServices {
		t.Errorf("rights %v", plan.Rights)
	}
}

// onlyReads shows that nothing in the cluster was changed so far.
func onlyReads(t *testing.T, client *fake.Clientset) {
	t.Helper()
	for _, action := range client.Actions() {
		create, ok := action.(clienttesting.CreateActionImpl)
		switch dry := ok && len(create.CreateOptions.DryRun) > 0; {
		case slices.Contains([]string{"get", "list", "watch"}, action.GetVerb()), dry:
		default:
			t.Errorf("%s %s", action.GetVerb(), action.GetResource().Resource)
		}
	}
}

// TestPlanOfOneService: a Service with several ports that lead to the app is one
// change, whether by name or by number.
func TestPlanOfOneService(t *testing.T) {
	svc := parse[corev1.Service](t, `
metadata: {name: many, namespace: shop}
spec:
  clusterIP: None
  selector: {app: back}
  ports:
  - {name: a, port: 80, protocol: TCP, targetPort: http}
  - {name: b, port: 81, protocol: TCP, targetPort: 8080}
  - {name: c, port: 8080, protocol: TCP}
  - {name: d, port: 82, protocol: TCP, targetPort: http}`)
	c, client := shop(t, ready(t), svc)
	client.PrependReactor("list", "networkpolicies", func(clienttesting.Action) (bool, runtime.Object, error) {
		list := &networkingv1.NetworkPolicyList{Items: policies(t, front8080)}
		return true, list, nil
	})
	r := request(t, c, backRef, "8080", "")
	if len(r.Port.Services) != 4 {
		t.Fatalf("got %v", r.Port.Services)
	}
	plan := planned(t, c, r)
	if refs(plan.Switches) != "service/many" || len(plan.Captures) != 2 {
		t.Errorf("switches %q, captures %q", refs(plan.Switches), plan.Captures)
	}
	if len(plan.Warnings) != 2 || !strings.Contains(plan.Warnings[0], "service/many is headless") {
		t.Errorf("warnings %q", plan.Warnings)
	}
	if len(plan.Refusals) != 1 {
		t.Errorf("refusals %+v", plan.Refusals)
	}
	carryOut(t, plan)
	leadsToAgent(t, c, r)

	c, _ = shop(t, ready(t), svc, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bare", Namespace: "shop", Labels: map[string]string{"app": "back"}}})
	if plan := planned(t, c, request(t, c, backRef, "8080", "")); len(plan.Refusals) != 1 || plan.Refusals[0].Code != SharedService {
		t.Errorf("one shared Service is refused as %+v", plan.Refusals)
	}
}

func TestPlanRefused(t *testing.T) {
	scratch := []corev1.Volume{{Name: "cache", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	for _, tc := range []struct {
		name     string
		change   func(*appsv1.Deployment)
		codes    []Code
		restart  Code // refused without allowRestart; "" is not at all
		hard     Code // refused with it
		arrivals int
		asked    bool // the API server was asked for its opinion
	}{
		{name: "fine", change: func(*appsv1.Deployment) {}, arrivals: 1, asked: true},
		{name: "never", change: func(d *appsv1.Deployment) { d.Spec.Template.Spec.HostNetwork = true }, codes: []Code{HostNetwork}, restart: HostNetwork, hard: HostNetwork},
		{name: "paused", change: func(d *appsv1.Deployment) { d.Spec.Paused = true }, codes: []Code{Paused}, restart: Paused, hard: Paused, arrivals: 1},
		{name: "costly", change: func(d *appsv1.Deployment) { d.Spec.Template.Spec.Volumes = scratch }, codes: []Code{LocalData}, restart: LocalData, arrivals: 1, asked: true},
		{
			name: "everything", codes: []Code{Paused, Recreate, LocalData}, restart: Paused, hard: Paused, arrivals: 1,
			change: func(d *appsv1.Deployment) {
				d.Spec.Paused, d.Spec.Template.Spec.Volumes = true, scratch
				d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dep := ready(t)
			tc.change(dep)
			c, client := shop(t, dep)
			plan := planned(t, c, request(t, c, backRef, "http", "back"))
			var codes []Code
			for _, r := range plan.Refusals {
				codes = append(codes, r.Code)
			}
			if !slices.Equal(codes, tc.codes) || len(plan.Arrivals) != tc.arrivals {
				t.Errorf("refusals %v, %d arrivals; want %v, %d", codes, len(plan.Arrivals), tc.codes, tc.arrivals)
			}
			for allow, want := range map[bool]Code{false: tc.restart, true: tc.hard} {
				err := plan.Refused(allow)
				var r *Refusal
				if want == "" && err != nil || want != "" && (!errors.As(err, &r) || r.Code != want) {
					t.Errorf("allowRestart %v: got %v, want %q", allow, err, want)
				}
			}
			asked := slices.ContainsFunc(client.Actions(), func(a clienttesting.Action) bool { return a.Matches("create", "pods") })
			if asked != tc.asked {
				t.Errorf("the API server was asked: %v", asked)
			}
			rightsAreAskedFor(t, plan)
			onlyReads(t, client)
		})
	}
}

// TestPlanWarns of what else a rolling update touches; who joins touches nothing.
func TestPlanWarns(t *testing.T) {
	all := services(t)
	all[0].Spec.ClusterIP = corev1.ClusterIPNone
	twin := all[0].DeepCopy()
	twin.Name, twin.Spec.ClusterIP = "twin", ""
	dep := ready(t)
	dep.Annotations["meta.helm.sh/release-name"] = "shop"
	c, _ := shop(t, dep, &all[0], &all[1], twin)
	got := planned(t, c, request(t, c, backRef, "http", "back")).Warnings
	want := []string{
		`service/twin (port 80) leads to port "http" and will lead to the agent too`,
		`service/back is headless`,
		`deployment/back belongs to Helm release shop`,
	}
	if !slices.EqualFunc(got, want, strings.Contains) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := planned(t, c, request(t, c, backRef, "web", "numeric")).Warnings; len(got) != 1 {
		t.Errorf("by number: %q", got)
	}
	c, _ = shop(t, sidecar(t, dep, specOf(byName)), &all[0], &all[1], twin)
	if got := planned(t, c, request(t, c, backRef, "http", "back")).Warnings; len(got) > 0 {
		t.Errorf("joining: %q", got)
	}
}

// TestPlanUnderQuota: a namespace whose quota demands a CPU limit gets an agent
// with one, whatever else the agent was to have.
func TestPlanUnderQuota(t *testing.T) {
	quota := func(pod *corev1.Pod) error {
		agent, _ := agentContainer(&pod.Spec)
		if agent.Resources.Limits.Cpu().IsZero() {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, pod.GenerateName, errors.New("failed quota: q: must specify limits.cpu for: tele-agent"))
		}
		return nil
	}
	generous := parse[corev1.ResourceRequirements](t, `{limits: {memory: 512Mi}}`)
	for _, resources := range []*corev1.ResourceRequirements{nil, generous} {
		c, client := shop(t, ready(t))
		admit(client, quota)
		r := request(t, c, backRef, "8080", "")
		r.Agent.Resources = resources
		plan := planned(t, c, r)
		onlyReads(t, client)
		w, _, err := plan.Arrivals[0].Apply(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		memory := "128Mi"
		if resources != nil {
			memory = "512Mi"
		}
		if agent, _ := agentContainer(&w.Template.Spec); agent.Resources.Limits.Cpu().String() != "1" || agent.Resources.Limits.Memory().String() != memory {
			t.Errorf("limits %v", agent.Resources.Limits)
		}
		if resources != nil && !resources.Limits.Cpu().IsZero() {
			t.Error("the request was changed")
		}
	}

	c, client := shop(t, ready(t))
	admit(client, func(*corev1.Pod) error {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "x", errors.New("exceeded quota: q, requested: pods=1"))
	})
	var refusal *Refusal
	plan := planned(t, c, request(t, c, backRef, "8080", ""))
	if err := plan.Refused(true); !errors.As(err, &refusal) || refusal.Code != NotAdmitted || !strings.Contains(refusal.Hint(), "leave room") {
		t.Errorf("got %v", err)
	}
}

// TestPreview shows what would be written, and writes nothing.
func TestPreview(t *testing.T) {
	c, client := shop(t, ready(t))
	plan := planned(t, c, request(t, c, backRef, "8080", ""))
	shown, err := plan.Arrivals[0].Preview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	onlyReads(t, client)
	w, _, err := plan.Arrivals[0].Apply(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, w.Object.(*appsv1.Deployment).Spec, shown.(*appsv1.Deployment).Spec)

	client.ClearActions()
	shown, err = plan.Switches[0].Preview(t.Context())
	if err != nil || shown.(*corev1.Service).Spec.Ports[0].TargetPort != intstr.FromInt32(FirstListenPort) {
		t.Errorf("got %v, %v", shown, err)
	}
	onlyReads(t, client)

	if err := client.AppsV1().Deployments("shop").Delete(t.Context(), "back", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Arrivals[0].Preview(t.Context()); !apierrors.IsNotFound(err) || !strings.Contains(err.Error(), "reading deployment/back") {
		t.Errorf("got %v", err)
	}
	if _, _, err := plan.Arrivals[0].Apply(t.Context()); !apierrors.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

// TestPlanIsOfNow: what a colleague did after the plan was made is respected.
func TestPlanIsOfNow(t *testing.T) {
	c, client := shop(t, ready(t))
	plan := planned(t, c, request(t, c, backRef, "8080", ""))
	live := sidecar(t, ready(t), specOf(byBoth))
	if _, err := client.AppsV1().Deployments("shop").Update(t.Context(), live, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w, restarts, err := plan.Arrivals[0].Apply(t.Context())
	if err != nil || restarts {
		t.Fatalf("restarts %v, %v", restarts, err)
	}
	if owners, err := Owners(w.Object); err != nil || len(owners) != 2 {
		t.Errorf("owners %v, %v", owners, err)
	}
}

// method is a Method that plans what it is told.
type method struct {
	plan *Plan
	err  error
}

func (m method) Plan(context.Context, Cluster, Request) (*Plan, error) { return m.plan, m.err }

func TestChoose(t *testing.T) {
	fine := func(name string) Method { return method{plan: &Plan{Method: name}} }
	refused := func(name string) Method {
		return method{plan: &Plan{Method: name, Refusals: []Refusal{{Code: LocalData, Fact: "it keeps data", Restart: true}}}}
	}
	broken := method{err: errors.New("broken")}
	for _, tc := range []struct {
		methods []Method
		want    string
	}{
		{[]Method{fine("a"), broken}, "a, <nil>"},
		{[]Method{refused("a"), fine("b"), broken}, "b, <nil>"},
		{[]Method{refused("a"), refused("b")}, "a, it keeps data"},
		{[]Method{refused("a"), broken}, "broken"},
	} {
		plan, err := Choose(t.Context(), Cluster{}, tc.methods, Request{})
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprintf("%s, %v", plan.Method, plan.Refused(false))
		}
		if got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}
