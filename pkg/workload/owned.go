package workload

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ownedController is the Controller of kinds whose pods belong to the workload itself.
// Their former templates are ControllerRevisions, which people with the role edit may
// read and not delete: they are left alone.
type ownedController struct {
	client kubernetes.Interface
	// isNew reports whether a pod is of the workload's newest template.
	isNew func(w *Workload, pod *corev1.Pod) bool
}

func (c ownedController) Pods(ctx context.Context, w *Workload) ([]corev1.Pod, error) {
	pods, err := c.owned(ctx, w)
	return slices.DeleteFunc(pods, func(p corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	}), err
}

// owned returns all pods of the workload, in the order of their names.
func (c ownedController) owned(ctx context.Context, w *Workload) ([]corev1.Pod, error) {
	list, err := c.client.CoreV1().Pods(w.Namespace()).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(w.Selector)})
	if err != nil {
		return nil, fmt.Errorf("listing pods of %s: %w", w, err)
	}
	pods := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return !metav1.IsControlledBy(&p, w.Object) })
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods, nil
}

func (c ownedController) Progress(ctx context.Context, w *Workload, generation int64) (Progress, error) {
	state := w.State
	p := Progress{Want: state.Replicas}
	if !state.Observed || w.Object.GetGeneration() < generation {
		p.Waiting = fmt.Sprintf("the %s controller to notice the change", w.Kind.Resource().Title)
		return p, nil
	}
	if state.Held != "" {
		return p, &RolloutError{Workload: w.Ref, Reason: "Held", Message: state.Held}
	}
	pods, err := c.owned(ctx, w)
	if err != nil {
		return p, &readError{err}
	}
	p.Updated, p.Old = state.Updated, max(0, state.Total-state.Updated)
	waiting := ""
	for i := range pods {
		pod := &pods[i]
		switch {
		case pod.DeletionTimestamp != nil:
			p.Ending++
		case c.isNew(w, pod):
			if failure := podFailure(pod); failure != nil {
				failure.Workload = w.Ref
				return p, failure
			}
			if why := waitsFor(pod); why == "" {
				p.Ready++
			} else if waiting == "" {
				waiting = why
			}
		}
	}
	switch {
	case state.Updated < p.Want || p.Old > 0:
		p.Waiting = "pods to be replaced one after the other"
	case state.Available < p.Want:
		p.Waiting = "new pods to become ready"
	default:
		p.Completed = true
		return p, nil
	}
	if waiting != "" {
		p.Waiting = waiting
	}
	return p, nil
}

func (ownedController) Revisions(context.Context, string) ([]Revision, error) { return nil, nil }

func (ownedController) DeleteRevision(context.Context, Revision) error { return nil }
