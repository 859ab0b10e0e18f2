package workload

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

// StatefulSets are the Kind of StatefulSets.
type StatefulSets struct{}

// Resource says how StatefulSets are called.
func (StatefulSets) Resource() Resource {
	return Resource{Group: "apps", Version: "v1", Title: "StatefulSet", Singular: "statefulset", Plural: "statefulsets", Short: "sts", Stalls: true}
}

// Store returns the StatefulSets of a namespace.
func (StatefulSets) Store(client kubernetes.Interface, ns string) Store {
	return StoreOf[*appsv1.StatefulSet, *appsv1.StatefulSetList](client.AppsV1().StatefulSets(ns))
}

// View returns a StatefulSet as a Workload. Its pods are replaced in place: while that
// happens, each is missing.
func (StatefulSets) View(obj Object) *Workload {
	set := obj.(*appsv1.StatefulSet)
	status := &set.Status
	want := int32(1)
	if set.Spec.Replicas != nil {
		want = *set.Spec.Replicas
	}
	return &Workload{
		Ref: Ref{Kind: "statefulset", Name: set.Name}, Kind: StatefulSets{}, Object: set,
		Template: &set.Spec.Template, Selector: set.Spec.Selector,
		State: State{
			Replicas: want, Ready: status.ReadyReplicas,
			Observed: status.ObservedGeneration >= set.Generation, Total: status.Replicas,
			Updated: status.UpdatedReplicas, Available: status.AvailableReplicas,
			Held: heldStatefulSet(set), MaxUnavailable: unavailableStatefulSet(set, want),
		},
	}
}

// heldStatefulSet returns why a change of the template does not reach every pod.
func heldStatefulSet(set *appsv1.StatefulSet) string {
	strategy := set.Spec.UpdateStrategy
	switch {
	case strategy.Type == appsv1.OnDeleteStatefulSetStrategyType:
		return "its update strategy is OnDelete"
	case strategy.RollingUpdate != nil && strategy.RollingUpdate.Partition != nil && *strategy.RollingUpdate.Partition > 0:
		return fmt.Sprintf("its update strategy has partition %d", *strategy.RollingUpdate.Partition)
	}
	return ""
}

// unavailableStatefulSet is how many pods a rollout takes away at once: one, unless the
// cluster knows of maxUnavailable.
func unavailableStatefulSet(set *appsv1.StatefulSet, want int32) int32 {
	if r := set.Spec.UpdateStrategy.RollingUpdate; r != nil && r.MaxUnavailable != nil {
		if n, err := intstr.GetScaledValueFromIntOrPercent(r.MaxUnavailable, int(want), true); err == nil && n > 0 {
			return int32(n)
		}
	}
	return 1
}

// Controller returns what the StatefulSet controller makes of StatefulSets.
func (StatefulSets) Controller(client kubernetes.Interface) Controller {
	return ownedController{client, func(w *Workload, pod *corev1.Pod) bool {
		return pod.Labels[appsv1.ControllerRevisionHashLabelKey] == w.Object.(*appsv1.StatefulSet).Status.UpdateRevision
	}}
}
