package workload

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"
)

// statefulSet is one of two pods whose rollout is complete.
func statefulSet() *appsv1.StatefulSet {
	labels := map[string]string{"app": "db"}
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "shop", UID: "set", Generation: 3},
		Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}},
		},
		Status: appsv1.StatefulSetStatus{
			ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2,
			CurrentRevision: "new", UpdateRevision: "new",
		},
	}
}

// daemonSet is one whose rollout is complete.
func daemonSet(nodes int32) *appsv1.DaemonSet {
	labels := map[string]string{"app": "db"}
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "shop", UID: "set", Generation: 3, Annotations: map[string]string{appsv1.DeprecatedTemplateGeneration: "3"}},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}},
		},
		Status: appsv1.DaemonSetStatus{
			ObservedGeneration: 3, DesiredNumberScheduled: nodes, CurrentNumberScheduled: nodes, UpdatedNumberScheduled: nodes, NumberReady: nodes, NumberAvailable: nodes,
		},
	}
}

// ownedPod is a pod of "set", of the new template or an old one.
func ownedPod(name string, isNew, ready bool) *corev1.Pod {
	labels := map[string]string{"app": "db", appsv1.ControllerRevisionHashLabelKey: "old", "pod-template-generation": "2"}
	if isNew {
		labels[appsv1.ControllerRevisionHashLabelKey], labels["pod-template-generation"] = "new", "3"
	}
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "shop", Labels: labels,
			OwnerReferences: []metav1.OwnerReference{{UID: "set", Controller: new(true)}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}},
	}
}

func TestStateOfOwned(t *testing.T) {
	for name, c := range map[string]struct {
		obj  Object
		want State
	}{
		"statefulset": {statefulSet(), State{Replicas: 2, Ready: 2, Observed: true, Total: 2, Updated: 2, Available: 2, MaxUnavailable: 1}},
		"statefulset, partition": {
			func() Object {
				set := statefulSet()
				set.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: new(int32(1)), MaxUnavailable: new(intstr.FromString("100%"))}
				return set
			}(),
			State{Replicas: 2, Ready: 2, Observed: true, Total: 2, Updated: 2, Available: 2, MaxUnavailable: 2, Held: "its update strategy has partition 1"},
		},
		"statefulset, OnDelete": {
			func() Object {
				set := statefulSet()
				set.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType
				set.Status.ObservedGeneration = 2
				return set
			}(),
			State{Replicas: 2, Ready: 2, Total: 2, Updated: 2, Available: 2, MaxUnavailable: 1, Held: "its update strategy is OnDelete"},
		},
		"daemonset": {daemonSet(3), State{Replicas: 3, Ready: 3, Observed: true, Total: 3, Updated: 3, Available: 3, MaxUnavailable: 1}},
		"daemonset, surge": {
			func() Object {
				set := daemonSet(3)
				set.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromInt32(1))}
				return set
			}(),
			State{Replicas: 3, Ready: 3, Observed: true, Total: 3, Updated: 3, Available: 3},
		},
		"daemonset, OnDelete": {
			func() Object {
				set := daemonSet(3)
				set.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
				return set
			}(),
			State{Replicas: 3, Ready: 3, Observed: true, Total: 3, Updated: 3, Available: 3, MaxUnavailable: 1, Held: "its update strategy is OnDelete"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := viewed(t, c.obj)
			if w.State != c.want {
				t.Errorf("got  %+v\nwant %+v", w.State, c.want)
			}
			if w.State.Rolling() != !c.want.Observed {
				t.Errorf("rolling: %v", w.State.Rolling())
			}
		})
	}
}

func viewed(t *testing.T, obj Object) *Workload {
	t.Helper()
	switch obj.(type) {
	case *appsv1.StatefulSet:
		return StatefulSets{}.View(obj)
	case *appsv1.DaemonSet:
		return DaemonSets{}.View(obj)
	}
	t.Fatalf("%T is of no kind", obj)
	return nil
}

// TestProgressOfOwned: a rollout is complete when every pod is new and available.
func TestProgressOfOwned(t *testing.T) {
	crashing := ownedPod("db-1", true, false)
	crashing.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}
	oldCrashing := crashing.DeepCopy()
	oldCrashing.Labels = ownedPod("", false, false).Labels
	stranger := ownedPod("db-x", true, false)
	stranger.OwnerReferences[0].UID = "other"
	stranger.Status.ContainerStatuses = crashing.Status.ContainerStatuses
	for name, c := range map[string]struct {
		updated, available int32
		generation         int64
		pods               []*corev1.Pod
		want               string // of the progress, or of the error
	}{
		"complete":       {2, 2, 3, []*corev1.Pod{ownedPod("db-0", true, true), ownedPod("db-1", true, true), stranger}, "2 of 2 pods ready"},
		"not noticed":    {2, 2, 4, nil, "0 of 2 new pods ready, 0 old: waiting for the KIND controller to notice the change"},
		"one to go":      {1, 2, 3, []*corev1.Pod{ownedPod("db-0", false, true), ownedPod("db-1", true, true)}, "1 of 2 new pods ready, OLD old: waiting for pods to be replaced one after the other"},
		"one starts":     {1, 1, 3, []*corev1.Pod{ownedPod("db-0", false, true), ownedPod("db-1", true, false)}, "0 of 2 new pods ready, OLD old: waiting for pod db-1 to start"},
		"not available":  {2, 1, 3, []*corev1.Pod{ownedPod("db-0", true, true), ownedPod("db-1", true, true)}, "2 of 2 new pods ready, 0 old: waiting for new pods to become ready"},
		"one crashes":    {1, 1, 3, []*corev1.Pod{ownedPod("db-0", false, true), crashing}, "SINGULAR/db, pod db-1, container app: CrashLoopBackOff"},
		"an old crashes": {1, 1, 3, []*corev1.Pod{ownedPod("db-0", true, true), oldCrashing}, "1 of 2 new pods ready, OLD old: waiting for pods to be replaced one after the other"},
	} {
		for _, kind := range []Kind{StatefulSets{}, DaemonSets{}} {
			t.Run(name+", "+kind.Resource().Singular, func(t *testing.T) {
				var obj Object
				old := "0" // a DaemonSet does not count them
				if kind.Resource().Short == "sts" {
					set := statefulSet()
					set.Status.UpdatedReplicas, set.Status.AvailableReplicas = c.updated, c.available
					obj, old = set, map[int32]string{1: "1", 2: "0"}[c.updated]
				} else {
					set := daemonSet(2)
					set.Status.UpdatedNumberScheduled, set.Status.NumberAvailable = c.updated, c.available
					obj = set
				}
				var objects []runtime.Object
				for _, pod := range c.pods {
					objects = append(objects, pod)
				}
				client := fake.NewClientset(objects...)
				p, err := kind.Controller(client).Progress(t.Context(), kind.View(obj), c.generation)
				got := p.String()
				if err != nil {
					got = err.Error()
				}
				want := strings.NewReplacer("KIND", kind.Resource().Title, "OLD", old, "SINGULAR", kind.Resource().Singular).Replace(c.want)
				if got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				pods, err := kind.Controller(client).Pods(t.Context(), kind.View(obj))
				if err != nil || len(pods) != len(objects) && name != "complete" || name == "complete" && len(pods) != 2 {
					t.Errorf("%d pods of %d, %v", len(pods), len(objects), err)
				}
			})
		}
	}
}
