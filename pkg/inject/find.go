package inject

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
)

// Leftover is an object that carries something of ours, whether it is in use or
// left behind. One of the pointers is set.
type Leftover struct {
	Kind    string // deployment, service, job, replicaset
	Name    string
	Owners  []Owner
	Record  *Record // nil when there is none or Damaged
	Damaged string  // why the record cannot be used

	Deployment *appsv1.Deployment
	Service    *corev1.Service
	Job        *batchv1.Job
	ReplicaSet *appsv1.ReplicaSet // of no Deployment that has our container, with none of its own pods
}

// String is kind/name.
func (l Leftover) String() string { return l.Kind + "/" + l.Name }

// Find lists everything of ours in the namespace: Services first, in the order in
// which it is to be undone. What may not be listed is left out, unless nothing
// may be.
func Find(ctx context.Context, client kubernetes.Interface, ns string) ([]Leftover, error) {
	deps, err := listed(client.AppsV1().Deployments(ns).List(ctx, metav1.ListOptions{}))
	if err != nil {
		return nil, fmt.Errorf("listing Deployments in namespace %s: %w", ns, err)
	}
	services, err := listed(client.CoreV1().Services(ns).List(ctx, metav1.ListOptions{}))
	if err != nil {
		return nil, fmt.Errorf("listing Services in namespace %s: %w", ns, err)
	}
	sets, err := listed(client.AppsV1().ReplicaSets(ns).List(ctx, metav1.ListOptions{}))
	if err != nil {
		return nil, fmt.Errorf("listing ReplicaSets in namespace %s: %w", ns, err)
	}
	jobs, err := listed(client.BatchV1().Jobs(ns).List(ctx, metav1.ListOptions{LabelSelector: LabelName + "=" + AppName}))
	if err != nil {
		return nil, fmt.Errorf("listing Jobs in namespace %s: %w", ns, err)
	}
	if deps == nil && services == nil && sets == nil && jobs == nil {
		_, err := client.AppsV1().Deployments(ns).List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return nil, fmt.Errorf("listing Deployments in namespace %s: %w", ns, err)
		}
	}
	var found []Leftover
	if services != nil {
		for i := range services.Items {
			found = appendService(found, &services.Items[i], deps)
		}
	}
	if deps != nil {
		for i := range deps.Items {
			dep := &deps.Items[i]
			rec, err := ReadRecord(dep)
			if rec == nil && err == nil && !Injected(dep) {
				continue
			}
			l := leftover("deployment", dep.Name, rec, err)
			if rec == nil && err == nil {
				l.Damaged = "it has an agent but no undo record"
			}
			l.Deployment = dep
			found = append(found, l)
		}
	}
	if sets != nil {
		for i := range sets.Items {
			if rs := &sets.Items[i]; abandoned(rs, deps) {
				found = append(found, Leftover{Kind: "replicaset", Name: rs.Name, ReplicaSet: rs})
			}
		}
	}
	if jobs != nil {
		for i := range jobs.Items {
			job := &jobs.Items[i]
			l := Leftover{Kind: "job", Name: job.Name, Job: job}
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

// listed turns a list that may not be read into none.
func listed[T any](list *T, err error) (*T, error) {
	if apierrors.IsForbidden(err) {
		return nil, nil
	}
	return list, err
}

func leftover(kind, name string, rec *Record, err error) Leftover {
	l := Leftover{Kind: kind, Name: name, Record: rec}
	if rec != nil {
		l.Owners = rec.Owners
	}
	if err != nil {
		l.Damaged = err.Error()
	}
	return l
}

// appendService also finds a Service that lost its record: it leads to the port
// on which the agent of a Deployment that it selects listens.
func appendService(found []Leftover, svc *corev1.Service, deps *appsv1.DeploymentList) []Leftover {
	rec, err := ReadRecord(svc)
	l := leftover("service", svc.Name, rec, err)
	l.Service = svc
	if rec != nil || err != nil {
		return append(found, l)
	}
	if deps == nil || len(svc.Spec.Selector) == 0 {
		return found
	}
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	for i := range deps.Items {
		dep := &deps.Items[i]
		if !selector.Matches(labels.Set(dep.Spec.Template.Labels)) || len(guessTargets(svc, capturesIn(dep))) == 0 {
			continue
		}
		l.Damaged = "it leads to the agent of deployment/" + dep.Name + " but has no undo record"
		return append(found, l)
	}
	return found
}

// abandoned tells whether a ReplicaSet keeps our container for a rollout undo
// though its Deployment is without us.
func abandoned(rs *appsv1.ReplicaSet, deps *appsv1.DeploymentList) bool {
	owner := metav1.GetControllerOf(rs)
	if deps == nil || owner == nil || !ownSet(rs) || !idle(rs) {
		return false
	}
	return slices.ContainsFunc(deps.Items, func(d appsv1.Deployment) bool { return d.UID == owner.UID && !Injected(&d) })
}

func ownSet(rs *appsv1.ReplicaSet) bool {
	c, _ := agentContainer(&rs.Spec.Template.Spec)
	return c != nil
}

func idle(rs *appsv1.ReplicaSet) bool {
	return rs.Spec.Replicas != nil && *rs.Spec.Replicas == 0 && rs.Status.Replicas == 0
}

// DeleteOwnReplicaSets deletes the ReplicaSets of the Deployment that hold our
// container and have no pods left, so that `kubectl rollout undo` does not bring
// the agent back. It is to be called when the rollout that removed us is
// complete, and does nothing while the Deployment still has our container. It
// returns the names of those it deleted.
func DeleteOwnReplicaSets(ctx context.Context, client kubernetes.Interface, dep *appsv1.Deployment) ([]string, error) {
	if Injected(dep) {
		return nil, nil
	}
	sets, err := client.AppsV1().ReplicaSets(dep.Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(dep.Spec.Selector)})
	if err != nil {
		return nil, fmt.Errorf("listing ReplicaSets of deployment/%s: %w", dep.Name, err)
	}
	var deleted []string
	for i := range sets.Items {
		rs := &sets.Items[i]
		if !metav1.IsControlledBy(rs, dep) || !ownSet(rs) || !idle(rs) {
			continue
		}
		err := DeleteReplicaSet(ctx, client, rs)
		if apierrors.IsConflict(err) {
			continue // somebody has just scaled it up: it is in use
		}
		if err != nil {
			return deleted, err
		}
		deleted = append(deleted, rs.Name)
	}
	return deleted, nil
}

// DeleteReplicaSet deletes exactly this ReplicaSet, in this state. That it is
// gone already is no error.
func DeleteReplicaSet(ctx context.Context, client kubernetes.Interface, rs *appsv1.ReplicaSet) error {
	background := metav1.DeletePropagationBackground
	opts := metav1.DeleteOptions{
		PropagationPolicy: &background,
		Preconditions:     &metav1.Preconditions{UID: new(rs.UID), ResourceVersion: new(rs.ResourceVersion)},
	}
	err := client.AppsV1().ReplicaSets(rs.Namespace).Delete(ctx, rs.Name, opts)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting replicaset/%s: %w", rs.Name, err)
	}
	return nil
}

// revision is the number that the Deployment controller gives to a rollout.
func revision(obj metav1.Object) int64 {
	n, _ := strconv.ParseInt(obj.GetAnnotations()["deployment.kubernetes.io/revision"], 10, 64)
	return n
}
