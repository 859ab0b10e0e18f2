package inject

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Leftover is an object that carries something of ours, whether it is in use or
// left behind. One of the pointers is set.
type Leftover struct {
	workload.Ref
	Owners  []Owner
	Record  *Record // nil if there is none or it cannot be read
	Damaged string  // why the record cannot be used

	Workload *workload.Workload
	Service  *corev1.Service
	Job      *batchv1.Job
	Revision *workload.Revision // of no workload that has our container, with none of its own pods
}

// Find lists everything of ours in the namespace: Services first, in the order in
// which it is to be undone. What may not be listed is left out, unless nothing
// may be.
func Find(ctx context.Context, client kubernetes.Interface, kinds workload.Kinds, ns string) ([]Leftover, error) {
	workloads, forbidden, err := listable(ctx, client, kinds, ns)
	if err != nil {
		return nil, err
	}
	services, err := readable(client.CoreV1().Services(ns).List(ctx, metav1.ListOptions{}))
	if err != nil {
		return nil, fmt.Errorf("listing Services in namespace %s: %w", ns, err)
	}
	jobs, err := readable(client.BatchV1().Jobs(ns).List(ctx, metav1.ListOptions{LabelSelector: LabelName + "=" + AppName}))
	if err != nil {
		return nil, fmt.Errorf("listing Jobs in namespace %s: %w", ns, err)
	}
	if len(forbidden) == len(kinds) && services == nil && jobs == nil {
		if _, err := kinds.List(ctx, client, ns); err != nil {
			return nil, err
		}
	}
	var found []Leftover
	if services != nil {
		for i := range services.Items {
			found = appendService(found, &services.Items[i], workloads)
		}
	}
	for _, w := range workloads {
		found = appendWorkload(found, w)
	}
	for _, k := range kinds {
		revisions, err := readable(Abandoned(ctx, client, workload.Kinds{k}, workloads, ns))
		if err != nil {
			return nil, err
		}
		for i := range revisions {
			found = append(found, Leftover{Ref: revisions[i].Ref, Revision: &revisions[i]})
		}
	}
	if jobs != nil {
		for i := range jobs.Items {
			job := &jobs.Items[i]
			l := Leftover{Ref: workload.Ref{Kind: "job", Name: job.Name}, Job: job}
			if owner, err := ReadOwner(job); err != nil {
				l.Damaged = err.Error()
			} else {
				l.Owners = []Owner{owner}
			}
			found = append(found, l)
		}
	}
	return found, nil
}

// listable returns the workloads of the kinds that may be listed, and the
// resources of those that may not.
func listable(ctx context.Context, client kubernetes.Interface, kinds workload.Kinds, ns string) (all []*workload.Workload, forbidden []string, err error) {
	for _, k := range kinds {
		some, err := workload.Kinds{k}.List(ctx, client, ns)
		switch {
		case apierrors.IsForbidden(err):
			forbidden = append(forbidden, k.Resource().String())
		case err != nil:
			return nil, nil, err
		}
		all = append(all, some...)
	}
	return all, forbidden, nil
}

// readable turns a list that may not be read into none.
func readable[T any](list T, err error) (T, error) {
	if apierrors.IsForbidden(err) {
		var none T
		return none, nil
	}
	return list, err
}

func leftover(ref workload.Ref, rec *Record, err error) Leftover {
	l := Leftover{Ref: ref, Record: rec}
	if rec != nil {
		l.Owners = rec.Owners
	}
	if err != nil {
		l.Damaged = err.Error()
	}
	return l
}

func appendWorkload(found []Leftover, w *workload.Workload) []Leftover {
	rec, err := ReadRecord(w.Object)
	if rec == nil && err == nil && !Injected(w) {
		return found
	}
	l := leftover(w.Ref, rec, err)
	if rec == nil && err == nil {
		l.Damaged = "it has an agent but no undo record"
	}
	l.Workload = w
	return append(found, l)
}

// appendService also finds a Service that lost its record: it leads to the port
// on which the agent of a workload that it selects listens.
func appendService(found []Leftover, svc *corev1.Service, workloads []*workload.Workload) []Leftover {
	rec, err := ReadRecord(svc)
	l := leftover(workload.Ref{Kind: "service", Name: svc.Name}, rec, err)
	l.Service = svc
	if rec != nil || err != nil {
		return append(found, l)
	}
	if len(svc.Spec.Selector) == 0 {
		return found
	}
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	for _, w := range workloads {
		if !selector.Matches(labels.Set(w.Template.Labels)) || len(guessTargets(svc, CapturesIn(w))) == 0 {
			continue
		}
		l.Damaged = fmt.Sprintf("it leads to the agent of %s but has no undo record", w)
		return append(found, l)
	}
	return found
}

// Abandoned returns the revisions without pods that keep our container for a
// rollout undo though their workload is without us.
func Abandoned(ctx context.Context, client kubernetes.Interface, kinds workload.Kinds, workloads []*workload.Workload, ns string) ([]workload.Revision, error) {
	without := map[types.UID]bool{}
	for _, w := range workloads {
		without[w.Object.GetUID()] = !Injected(w)
	}
	var all []workload.Revision
	for _, k := range kinds {
		revisions, err := k.Controller(client).Revisions(ctx, ns)
		if err != nil {
			return nil, err
		}
		for _, r := range revisions {
			if c, _ := agentContainer(&r.Template.Spec); c != nil && r.Idle && without[r.Owner] {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// DeleteRevisions deletes the revisions of a workload that hold our container and
// have no pods left, so that a rollout undo does not bring the agent back. It is
// to be called when the rollout that removed us is complete, and does nothing
// while the workload still has our container. It returns the names of those it
// deleted.
func DeleteRevisions(ctx context.Context, client kubernetes.Interface, w *workload.Workload) ([]string, error) {
	abandoned, err := Abandoned(ctx, client, workload.Kinds{w.Kind}, []*workload.Workload{w}, w.Namespace())
	if err != nil {
		return nil, err
	}
	var deleted []string
	for _, r := range abandoned {
		err := w.Kind.Controller(client).DeleteRevision(ctx, r)
		if apierrors.IsConflict(err) {
			continue // somebody has just scaled it up: it is in use
		}
		if err != nil {
			return deleted, err
		}
		deleted = append(deleted, r.Name)
	}
	return deleted, nil
}
