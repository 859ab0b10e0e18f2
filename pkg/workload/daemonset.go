package workload

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

// DaemonSets are the Kind of DaemonSets.
type DaemonSets struct{}

// Resource says how DaemonSets are called.
func (DaemonSets) Resource() Resource {
	return Resource{Group: "apps", Version: "v1", Title: "DaemonSet", Singular: "daemonset", Plural: "daemonsets", Short: "ds"}
}

// Store returns the DaemonSets of a namespace.
func (DaemonSets) Store(client kubernetes.Interface, ns string) Store {
	return StoreOf[*appsv1.DaemonSet, *appsv1.DaemonSetList](client.AppsV1().DaemonSets(ns))
}

// View returns a DaemonSet as a Workload. How many replicas are wanted is what the
// controller counted last: one for each node that fits.
func (DaemonSets) View(obj Object) *Workload {
	set := obj.(*appsv1.DaemonSet)
	status := &set.Status
	held := ""
	if set.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
		held = "its update strategy is OnDelete"
	}
	return &Workload{
		Ref: Ref{Kind: "daemonset", Name: set.Name}, Kind: DaemonSets{}, Object: set,
		Template: &set.Spec.Template, Selector: set.Spec.Selector,
		State: State{
			Replicas: status.DesiredNumberScheduled, Ready: status.NumberReady,
			Observed: status.ObservedGeneration >= set.Generation, Total: status.UpdatedNumberScheduled,
			Updated: status.UpdatedNumberScheduled, Available: status.NumberAvailable,
			Held: held, MaxUnavailable: unavailableDaemonSet(set),
		},
	}
}

// unavailableDaemonSet is how many pods a rollout takes away at once.
func unavailableDaemonSet(set *appsv1.DaemonSet) int32 {
	unavailable := intstr.FromInt32(1)
	if r := set.Spec.UpdateStrategy.RollingUpdate; r != nil && r.MaxUnavailable != nil {
		unavailable = *r.MaxUnavailable
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(&unavailable, int(set.Status.DesiredNumberScheduled), true)
	if err != nil {
		return 1
	}
	return int32(n)
}

// Controller returns what the DaemonSet controller makes of DaemonSets. It numbers
// templates, in a label that is called deprecated and still set.
func (DaemonSets) Controller(client kubernetes.Interface) Controller {
	return ownedController{client, func(w *Workload, pod *corev1.Pod) bool {
		number, numbered := w.Object.GetAnnotations()[appsv1.DeprecatedTemplateGeneration]
		return !numbered || pod.Labels["pod-template-generation"] == number
	}}
}
