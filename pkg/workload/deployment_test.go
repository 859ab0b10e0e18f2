package workload

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// forbidList makes the API server refuse to list a resource.
func forbidList(client *fake.Clientset, resource string) {
	client.PrependReactor("list", resource, func(a clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: a.GetResource().Resource}, "", nil)
	})
}

func TestView(t *testing.T) {
	dep := ready()
	w := view(dep)
	want := State{Replicas: 2, Ready: 2, Observed: true, Total: 2, Updated: 2, Available: 2}
	if w.String() != "deployment/back" || w.Namespace() != "shop" || w.Selector != dep.Spec.Selector || w.State != want {
		t.Errorf("got %+v", w)
	}
	w.Template.Labels["x"] = "y"
	if dep.Spec.Template.Labels["x"] != "y" {
		t.Error("the template is a copy")
	}
	twin := w.Copy()
	twin.Template.Labels["x"], twin.Object.(*appsv1.Deployment).Name = "z", "twin"
	if dep.Spec.Template.Labels["x"] != "y" || dep.Name != "back" || twin.Object.(*appsv1.Deployment).Spec.Template.Labels["x"] != "z" {
		t.Error("the copy is not its own, or not whole")
	}
}

// TestState: what a Deployment says means the same as in every other kind.
func TestState(t *testing.T) {
	strategy := func(surge, unavailable string) func(*appsv1.Deployment) {
		return func(d *appsv1.Deployment) {
			s, u := intstr.Parse(surge), intstr.Parse(unavailable)
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &u}
		}
	}
	for _, tc := range []struct {
		name    string
		change  func(*appsv1.Deployment)
		want    func(*State)
		rolling bool
	}{
		{name: "complete"},
		{name: "replicas by default", change: func(d *appsv1.Deployment) { d.Spec.Replicas = nil }, want: func(s *State) { s.Replicas = 1 }},
		{name: "not observed", change: func(d *appsv1.Deployment) { d.Generation = 4 }, want: func(s *State) { s.Observed = false }, rolling: true},
		{name: "not updated", change: func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 1 }, want: func(s *State) { s.Updated = 1 }, rolling: true},
		{name: "old pods left", change: func(d *appsv1.Deployment) { d.Status.Replicas = 3 }, want: func(s *State) { s.Total = 3 }, rolling: true},
		{name: "not available", change: func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 1 }, want: func(s *State) { s.Available = 1 }, rolling: true},
		{name: "paused", change: func(d *appsv1.Deployment) { d.Spec.Paused = true }, want: func(s *State) { s.Paused = true }},
		{name: "recreate", change: func(d *appsv1.Deployment) { d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType }, want: func(s *State) { s.Recreate = true }},
		{
			name: "stuck", want: func(s *State) { s.Stuck = "timed out" },
			change: func(d *appsv1.Deployment) {
				d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Message: "timed out"}}
			},
		},
		{
			name: "not admitted", want: func(s *State) { s.Stuck = "exceeded quota" },
			change: func(d *appsv1.Deployment) {
				d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: "exceeded quota"}}
			},
		},
		{name: "half", change: strategy("25%", "50%"), want: func(s *State) { s.MaxUnavailable = 1 }},
		{name: "all", change: strategy("0", "100%"), want: func(s *State) { s.MaxUnavailable = 2 }},
		{name: "by number", change: strategy("1", "3"), want: func(s *State) { s.MaxUnavailable = 3 }},
		{name: "neither", change: strategy("0", "10%"), want: func(s *State) { s.MaxUnavailable = 1 }},
		{name: "nonsense", change: strategy("1", "many")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dep := ready()
			want := view(dep).State
			if tc.change != nil {
				tc.change(dep)
			}
			if tc.want != nil {
				tc.want(&want)
			}
			if got := view(dep).State; got != want || got.Rolling() != tc.rolling {
				t.Errorf("got %+v, rolling %v; want %+v, %v", got, got.Rolling(), want, tc.rolling)
			}
		})
	}
}

func TestPods(t *testing.T) {
	dep := deployment()
	dep.UID = "dep"
	dep.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "back"}}
	controlled := func(meta metav1.ObjectMeta, kind, uid string) metav1.ObjectMeta {
		meta.Namespace, meta.Labels = "shop", map[string]string{"app": "back"}
		meta.OwnerReferences = []metav1.OwnerReference{{Kind: kind, UID: "dep", Controller: new(true)}}
		meta.OwnerReferences[0].UID = types.UID(uid)
		return meta
	}
	pod := func(name, uid string, phase corev1.PodPhase) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: controlled(metav1.ObjectMeta{Name: name}, "ReplicaSet", uid), Status: corev1.PodStatus{Phase: phase}}
	}
	client := fake.NewClientset(
		&appsv1.ReplicaSet{ObjectMeta: controlled(metav1.ObjectMeta{Name: "back-1", UID: "rs1"}, "Deployment", "dep")},
		&appsv1.ReplicaSet{ObjectMeta: controlled(metav1.ObjectMeta{Name: "alien", UID: "rs2"}, "Deployment", "another")},
		pod("back-1-b", "rs1", corev1.PodRunning),
		pod("back-1-a", "rs1", corev1.PodPending),
		pod("evicted", "rs1", corev1.PodFailed),
		pod("alien", "rs2", corev1.PodRunning),
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bare", Namespace: "shop", Labels: map[string]string{"app": "back"}}},
	)
	pods, err := (Deployments{}).Controller(client).Pods(t.Context(), view(dep))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"back-1-a", "back-1-b"}) {
		t.Errorf("got %v", names)
	}
}

// TestPodsWithoutReplicaSets: where ReplicaSets may not be listed, their names
// say whose they are.
func TestPodsWithoutReplicaSets(t *testing.T) {
	leaving := ownedBy("back-1-c", "ReplicaSet", "back-1")
	leaving.DeletionTimestamp, leaving.Finalizers = &metav1.Time{Time: since}, []string{"x"}
	client := fake.NewClientset(
		&corev1.Pod{ObjectMeta: leaving},
		&corev1.Pod{ObjectMeta: ownedBy("back-2-b", "ReplicaSet", "back-2")},
		&corev1.Pod{ObjectMeta: ownedBy("back-1-a", "ReplicaSet", "back-1")},
		&corev1.Pod{ObjectMeta: ownedBy("back-1-d", "ReplicaSet", "back-1"), Status: corev1.PodStatus{Phase: corev1.PodSucceeded}},
		&corev1.Pod{ObjectMeta: ownedBy("backup-1-a", "ReplicaSet", "backup-1")},
		&corev1.Pod{ObjectMeta: ownedBy("back-0", "StatefulSet", "back-sts")},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bare", Namespace: "shop", Labels: map[string]string{"app": "back"}}},
	)
	forbidList(client, "replicasets")
	pods, err := (Deployments{}).Controller(client).Pods(t.Context(), view(ready()))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"back-1-a", "back-1-c", "back-2-b"}) {
		t.Errorf("got %v", names)
	}
	forbidList(client, "pods")
	if _, err := (Deployments{}).Controller(client).Pods(t.Context(), view(ready())); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "listing pods of deployment/back") {
		t.Errorf("got %v", err)
	}
	client.PrependReactor("list", "replicasets", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("connection refused")
	})
	if _, err := (Deployments{}).Controller(client).Pods(t.Context(), view(ready())); err == nil || !strings.Contains(err.Error(), "listing ReplicaSets of deployment/back: connection refused") {
		t.Errorf("got %v", err)
	}
}

func TestRevisions(t *testing.T) {
	set := func(name, owner string, want *int32, have int32) *appsv1.ReplicaSet {
		rs := &appsv1.ReplicaSet{ObjectMeta: ownedBy(name, "Deployment", owner), Status: appsv1.ReplicaSetStatus{Replicas: have}}
		rs.ResourceVersion, rs.Spec.Replicas = "7", want
		rs.Spec.Template.Spec.Containers = []corev1.Container{container(name)}
		return rs
	}
	bare := set("bare", "x", new(int32(0)), 0)
	bare.OwnerReferences = nil
	another := set("another", "argo", new(int32(0)), 0)
	another.OwnerReferences[0].Kind = "Rollout"
	elsewhere := set("elsewhere", "dep", new(int32(0)), 0)
	elsewhere.Namespace = "other"
	client := fake.NewClientset(bare, another, elsewhere,
		set("idle", "dep", new(int32(0)), 0),
		set("draining", "dep", new(int32(0)), 1),
		set("wanted", "other", new(int32(1)), 0),
		set("default", "dep", nil, 0))
	controller := (Deployments{}).Controller(client)
	all, err := controller.Revisions(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range all {
		got = append(got, fmt.Sprintf("%s of %s idle=%v", r, r.Owner, r.Idle))
		if r.Namespace != "shop" || string(r.UID) != r.Name || r.ResourceVersion != "7" || r.Template.Spec.Containers[0].Name != r.Name {
			t.Errorf("got %+v", r)
		}
	}
	want := []string{
		"replicaset/default of dep idle=false", "replicaset/draining of dep idle=false",
		"replicaset/idle of dep idle=true", "replicaset/wanted of other idle=false",
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	forbidList(client, "replicasets")
	if _, err := controller.Revisions(t.Context(), "shop"); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "listing ReplicaSets in namespace shop") {
		t.Errorf("got %v", err)
	}
}

func TestDeleteRevision(t *testing.T) {
	revision := Revision{Ref: Ref{Kind: "replicaset", Name: "back-1"}, Namespace: "shop", UID: "u", ResourceVersion: "7"}
	client := fake.NewClientset(&appsv1.ReplicaSet{ObjectMeta: ownedBy("back-1", "Deployment", "dep")})
	controller := (Deployments{}).Controller(client)
	for range 2 { // the second time it is gone already
		if err := controller.DeleteRevision(t.Context(), revision); err != nil {
			t.Fatal(err)
		}
	}
	opts := client.Actions()[0].(clienttesting.DeleteActionImpl).DeleteOptions
	if c := opts.Preconditions; c == nil || *c.UID != "u" || *c.ResourceVersion != "7" || *opts.PropagationPolicy != metav1.DeletePropagationBackground {
		t.Errorf("deleted with %+v", opts)
	}
	client.PrependReactor("delete", "replicasets", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "replicasets"}, "back-1", errors.New("changed"))
	})
	if err := controller.DeleteRevision(t.Context(), revision); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), "deleting replicaset/back-1") {
		t.Errorf("got %v", err)
	}
}
