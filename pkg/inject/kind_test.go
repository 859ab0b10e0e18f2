package inject

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// statefulSets is a second kind, as a toy: all that a kind is, in one type of one
// file. It is its own Controller.
type statefulSets struct{ client kubernetes.Interface }

func (statefulSets) Resource() workload.Resource {
	return workload.Resource{Group: "apps", Version: "v1", Title: "StatefulSet", Singular: "statefulset", Plural: "statefulsets", Short: "sts"}
}

func (statefulSets) Store(client kubernetes.Interface, ns string) workload.Store {
	return workload.StoreOf[*appsv1.StatefulSet, *appsv1.StatefulSetList](client.AppsV1().StatefulSets(ns))
}

func (k statefulSets) View(obj workload.Object) *workload.Workload {
	set := obj.(*appsv1.StatefulSet)
	status := &set.Status
	return &workload.Workload{
		Ref: workload.Ref{Kind: "statefulset", Name: set.Name}, Kind: k, Object: set,
		Template: &set.Spec.Template, Selector: set.Spec.Selector,
		State: workload.State{
			Replicas: *set.Spec.Replicas, Ready: status.ReadyReplicas,
			Observed: status.ObservedGeneration >= set.Generation, Total: status.Replicas,
			Updated: status.UpdatedReplicas, Available: status.AvailableReplicas, MaxUnavailable: 1,
		},
	}
}

func (statefulSets) Controller(client kubernetes.Interface) workload.Controller {
	return statefulSets{client}
}

func (k statefulSets) Pods(ctx context.Context, w *workload.Workload) ([]corev1.Pod, error) {
	list, err := k.client.CoreV1().Pods(w.Namespace()).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(w.Selector)})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return !metav1.IsControlledBy(&p, w.Object) }), nil
}

func (statefulSets) Progress(_ context.Context, w *workload.Workload, generation int64) (workload.Progress, error) {
	p := workload.Progress{Want: w.State.Replicas, Updated: w.State.Updated, Ready: w.State.Ready}
	if w.Object.GetGeneration() < generation || w.State.Rolling() {
		p.Waiting = "pods to be replaced"
		return p, nil
	}
	p.Completed = true
	return p, nil
}

func (statefulSets) Revisions(context.Context, string) ([]workload.Revision, error) { return nil, nil }

func (statefulSets) DeleteRevision(context.Context, workload.Revision) error { return nil }

// store is a StatefulSet with the fixture's pods, and its rollout complete.
func store(t testing.TB) *appsv1.StatefulSet {
	dep := ready(t)
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: "store", Namespace: "shop", UID: "set", Generation: 3,
			Labels: map[string]string{"app": "back"}, Annotations: map[string]string{"team": "store"},
		},
		Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32(2)), Selector: dep.Spec.Selector, Template: dep.Spec.Template, ServiceName: "back",
		},
		Status: appsv1.StatefulSetStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2},
	}
}

// TestSecondKind takes a workload of the toy kind from the word that names it to
// the objects as they were before: a kind is one file, and nothing else knows it.
func TestSecondKind(t *testing.T) {
	kind := statefulSets{}
	orig, all := store(t), services(t)
	front := ready(t)
	front.Name, front.UID = "front", "front"
	front.Spec.Template.Labels = map[string]string{"app": "front"}
	c, client := newCluster(orig.DeepCopy(), front, &all[0], all[1].DeepCopy(),
		&corev1.Pod{ObjectMeta: ownedBy("store-0", "StatefulSet", "set", map[string]string{"app": "back"})})
	c.Kinds = workload.Kinds{workload.Deployments{}, kind}

	ref, err := c.Kinds.Parse("sts/store")
	if err != nil || ref.String() != "statefulset/store" {
		t.Fatalf("got %s, %v", ref, err)
	}
	r := request(t, c, ref, "8080", "")
	plan := planned(t, c, r)
	if err := plan.Refused(false); err != nil {
		t.Fatalf("refused: %v", err)
	}
	if plan.String() != "inject sidecar, capture port-name http and service: one rolling update of 2 pods" ||
		refs(plan.Arrivals) != "statefulset/store" || refs(plan.Switches) != "service/numeric" {
		t.Errorf("got %q, arrivals %q, switches %q", plan, refs(plan.Arrivals), refs(plan.Switches))
	}
	if !slices.Contains(plan.Rights, access.Right{Verb: "patch", Group: "apps", Resource: "statefulsets"}) {
		t.Errorf("rights %v", plan.Rights)
	}
	onlyReads(t, client)

	if !carryOut(t, plan) {
		t.Error("no pods were replaced")
	}
	leadsToAgent(t, c, r)
	w, err := c.Kinds.Get(t.Context(), client, "shop", ref)
	if err != nil {
		t.Fatal(err)
	}
	svc, err := client.CoreV1().Services("shop").Get(t.Context(), "numeric", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range []workload.Object{w.Object, svc} {
		rec, err := ReadRecord(obj)
		if err != nil || rec.Workload != ref || !strings.Contains(obj.GetAnnotations()[AnnotationUndo], `"workload":"statefulset/store"`) {
			t.Errorf("record of %s: %+v, %v", obj.GetName(), rec, err)
		}
	}
	if err := (workload.Rollout{Workload: w, Generation: 3}).Wait(t.Context(), client); err != nil {
		t.Errorf("the rollout: %v", err)
	}
	if again := planned(t, c, request(t, c, ref, "8080", "")); !again.Joins || again.String() != "statefulset/store has an agent already: joining it" {
		t.Errorf("a second plan: %q, %+v", again, again.Refusals)
	}
	if got := found(t, c); got != "service/numeric, statefulset/store" {
		t.Errorf("found %s", got)
	}
	if got := sharedWith(t, c, front, &all[1]); got != "service/numeric leads to statefulset/store as well" {
		t.Errorf("another workload's plan: %q", got)
	}

	if _, _, err := Retry(t.Context(), workload.Services(client, "shop"), workload.Ref{Kind: "service", Name: "numeric"}, func(now workload.Object) (workload.Object, error) {
		undone, leftovers, err := UndoService(now.(*corev1.Service))
		if len(leftovers) > 0 {
			t.Errorf("leftovers %q", leftovers)
		}
		return undone, err
	}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Retry(t.Context(), kind.Store(client, "shop"), ref, func(now workload.Object) (workload.Object, error) {
		undone, leftovers, err := Undo(kind.View(now))
		if err != nil || len(leftovers) > 0 {
			return nil, fmt.Errorf("leftovers %q: %w", leftovers, err)
		}
		return undone.Object, nil
	}); err != nil {
		t.Fatal(err)
	}
	if w, err = c.Kinds.Get(t.Context(), client, "shop", ref); err != nil {
		t.Fatal(err)
	}
	if svc, err = client.CoreV1().Services("shop").Get(t.Context(), "numeric", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, obj := range []workload.Object{w.Object, svc} {
		obj.SetManagedFields(nil) // who has written is all that stays
	}
	equal(t, w.Object, orig)
	equal(t, svc, &all[1])
	if deleted, err := DeleteRevisions(t.Context(), client, w); err != nil || len(deleted) > 0 {
		t.Errorf("deleted %v, %v", deleted, err)
	}
	if got := found(t, c); got != "" {
		t.Errorf("found %s", got)
	}
}

// found lists what Find finds.
func found(t *testing.T, c Cluster) string {
	t.Helper()
	all, err := Find(t.Context(), c.Client, c.Kinds, c.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range all {
		if l.Damaged != "" || !slices.Equal(l.Owners, []Owner{bob(8080)}) {
			t.Errorf("%s: %q, owners %v", l, l.Damaged, l.Owners)
		}
		names = append(names, l.String())
	}
	return strings.Join(names, ", ")
}

// sharedWith is why a Deployment behind a Service of both kinds is refused.
func sharedWith(t *testing.T, c Cluster, dep *appsv1.Deployment, svc *corev1.Service) string {
	t.Helper()
	wide := OriginalService(svc)
	wide.Spec.Ports[0].TargetPort = intstr.FromInt32(8080)
	facts, err := gather(t.Context(), c.Client, c.Kinds, view(dep), []corev1.Service{*wide})
	if err != nil {
		t.Fatal(err)
	}
	refusals := sharedServices(view(dep), []Capture{byNumber}, facts)
	if len(refusals) == 0 {
		return ""
	}
	fact, _, _ := strings.Cut(refusals[0].Fact, ",")
	return fact
}

// TestFindOfKindThatMayNotBeListed: whoever may not list one kind still finds
// what is ours in the others.
func TestFindOfKindThatMayNotBeListed(t *testing.T) {
	injected, err := AddSidecar(statefulSets{}.View(store(t)), specOf(byName))
	if err != nil {
		t.Fatal(err)
	}
	for forbidden, want := range map[string]string{
		"statefulsets": "deployment/back, replicaset/clean-1",
		"deployments":  "statefulset/store",
		"replicasets":  "deployment/back, statefulset/store",
	} {
		clean := ready(t)
		clean.Name, clean.UID = "clean", "clean"
		dep := sidecar(t, ready(t), specOf(byName))
		c, client := newCluster(injected.Object.DeepCopyObject(), dep, clean, replicaSet("clean-1", "clean", dep.Spec.Template, 0, 0))
		c.Kinds = workload.Kinds{workload.Deployments{}, statefulSets{}}
		forbid(client, "list", forbidden)
		all, err := Find(t.Context(), client, c.Kinds, "shop")
		if err != nil {
			t.Errorf("without %s: %v", forbidden, err)
		}
		var names []string
		for _, l := range all {
			names = append(names, l.String())
		}
		if got := strings.Join(names, ", "); got != want {
			t.Errorf("without %s: got %s, want %s", forbidden, got, want)
		}
	}
}
