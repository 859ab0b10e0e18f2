package workload

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

// Deployments is the Kind of Deployments.
type Deployments struct{}

// Resource says how Deployments are called.
func (Deployments) Resource() Resource {
	return Resource{Group: "apps", Version: "v1", Title: "Deployment", Singular: "deployment", Plural: "deployments", Short: "deploy", Revisions: "replicasets"}
}

// Store returns the Deployments of a namespace.
func (Deployments) Store(client kubernetes.Interface, ns string) Store {
	return StoreOf[*appsv1.Deployment, *appsv1.DeploymentList](client.AppsV1().Deployments(ns))
}

// View returns a Deployment as a Workload.
func (Deployments) View(obj Object) *Workload {
	dep := obj.(*appsv1.Deployment)
	status := &dep.Status
	return &Workload{
		Ref: Ref{Kind: "deployment", Name: dep.Name}, Kind: Deployments{}, Object: dep,
		Template: &dep.Spec.Template, Selector: dep.Spec.Selector,
		State: State{
			Replicas: replicas(dep), Ready: status.ReadyReplicas,
			Observed: status.ObservedGeneration >= dep.Generation, Total: status.Replicas,
			Updated: status.UpdatedReplicas, Available: status.AvailableReplicas,
			Paused: dep.Spec.Paused, Stuck: stuck(dep),
			Recreate:       dep.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType,
			MaxUnavailable: maxUnavailable(dep),
		},
	}
}

// Controller returns what the Deployment controller makes of Deployments.
func (Deployments) Controller(client kubernetes.Interface) Controller {
	return deploymentController{client}
}

func replicas(dep *appsv1.Deployment) int32 {
	if dep.Spec.Replicas == nil {
		return 1
	}
	return *dep.Spec.Replicas
}

// stuck returns why the Deployment's rollout makes no progress, "" if it does.
func stuck(dep *appsv1.Deployment) string {
	for _, c := range dep.Status.Conditions {
		switch {
		case c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse,
			c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue:
			return c.Message
		}
	}
	return ""
}

// maxUnavailable is how many pods a rollout may take away, resolved as the
// Deployment controller does.
func maxUnavailable(dep *appsv1.Deployment) int32 {
	quarter := intstr.FromString("25%")
	surge, unavailable := &quarter, &quarter
	if r := dep.Spec.Strategy.RollingUpdate; r != nil {
		if r.MaxSurge != nil {
			surge = r.MaxSurge
		}
		if r.MaxUnavailable != nil {
			unavailable = r.MaxUnavailable
		}
	}
	want := int(replicas(dep))
	s, err1 := intstr.GetScaledValueFromIntOrPercent(surge, want, true)
	u, err2 := intstr.GetScaledValueFromIntOrPercent(unavailable, want, false)
	if err1 != nil || err2 != nil {
		return 0
	}
	if s == 0 && u == 0 {
		u = 1
	}
	return int32(u)
}

// deploymentController is the Controller of Deployments, whose pods belong to
// ReplicaSets, one a revision.
type deploymentController struct{ client kubernetes.Interface }

// Pods recognizes pods by their ReplicaSets, or, where those may not be listed,
// by the names that the controller gives to ReplicaSets.
func (c deploymentController) Pods(ctx context.Context, w *Workload) ([]corev1.Pod, error) {
	sets, err := c.replicaSets(ctx, w)
	if err != nil && !apierrors.IsForbidden(err) {
		return nil, err
	}
	own := map[types.UID]bool{}
	for i := range sets {
		own[sets[i].UID] = true
	}
	list, err := c.pods(ctx, w)
	if err != nil {
		return nil, err
	}
	belongs := func(owner *metav1.OwnerReference) bool {
		if sets == nil {
			return owner.Kind == "ReplicaSet" && strings.HasPrefix(owner.Name, w.Name+"-")
		}
		return own[owner.UID]
	}
	var pods []corev1.Pod
	for _, pod := range list {
		owner := metav1.GetControllerOf(&pod)
		if owner == nil || !belongs(owner) || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		pods = append(pods, pod)
	}
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods, nil
}

// replicaSets returns the Deployment's ReplicaSets; not nil without an error.
func (c deploymentController) replicaSets(ctx context.Context, w *Workload) ([]appsv1.ReplicaSet, error) {
	list, err := c.client.AppsV1().ReplicaSets(w.Namespace()).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(w.Selector)})
	if err != nil {
		return nil, fmt.Errorf("listing ReplicaSets of %s: %w", w, err)
	}
	own := []appsv1.ReplicaSet{}
	for _, set := range list.Items {
		if metav1.IsControlledBy(&set, w.Object) {
			own = append(own, set)
		}
	}
	return own, nil
}

// pods returns all pods that the Deployment's selector selects.
func (c deploymentController) pods(ctx context.Context, w *Workload) ([]corev1.Pod, error) {
	list, err := c.client.CoreV1().Pods(w.Namespace()).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(w.Selector)})
	if err != nil {
		return nil, fmt.Errorf("listing pods of %s: %w", w, err)
	}
	return list.Items, nil
}

func (c deploymentController) Progress(ctx context.Context, w *Workload, generation int64) (Progress, error) {
	sets, err := c.replicaSets(ctx, w)
	if err != nil {
		return Progress{}, &readError{err}
	}
	pods, err := c.pods(ctx, w)
	if err != nil {
		return Progress{}, &readError{err}
	}
	return assess(w.Object.(*appsv1.Deployment), generation, sets, pods)
}

func (c deploymentController) Revisions(ctx context.Context, ns string) ([]Revision, error) {
	list, err := c.client.AppsV1().ReplicaSets(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing ReplicaSets in namespace %s: %w", ns, err)
	}
	var all []Revision
	for i := range list.Items {
		set := &list.Items[i]
		owner := metav1.GetControllerOf(set)
		if owner == nil || owner.Kind != "Deployment" {
			continue
		}
		all = append(all, Revision{
			Ref: Ref{Kind: "replicaset", Name: set.Name}, Of: "deployment", Namespace: set.Namespace,
			Owner: owner.UID, Template: &set.Spec.Template,
			Idle: set.Spec.Replicas != nil && *set.Spec.Replicas == 0 && set.Status.Replicas == 0,
			UID:  set.UID, ResourceVersion: set.ResourceVersion,
		})
	}
	return all, nil
}

func (c deploymentController) DeleteRevision(ctx context.Context, r Revision) error {
	background := metav1.DeletePropagationBackground
	err := c.client.AppsV1().ReplicaSets(r.Namespace).Delete(ctx, r.Name, metav1.DeleteOptions{
		PropagationPolicy: &background,
		Preconditions:     &metav1.Preconditions{UID: new(r.UID), ResourceVersion: new(r.ResourceVersion)},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting %s: %w", r, err)
	}
	return nil
}

// revision is the number that the Deployment controller gives to a rollout.
func revision(obj metav1.Object) int64 {
	n, _ := strconv.ParseInt(obj.GetAnnotations()["deployment.kubernetes.io/revision"], 10, 64)
	return n
}
