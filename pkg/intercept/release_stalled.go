package intercept

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/poll"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// unstall deletes pods with the agent that are not ready, where the controller would
// wait for them for ever: an agent that does not start must not keep the app from doing so.
func (r *release) unstall(ctx context.Context, w *workload.Workload) error {
	if !w.Kind.Resource().Stalls || hasAgents(w) {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, observeLimit)
	defer cancel()
	_ = poll.Until(limited, observeEvery, func() (bool, error) { // a pod made before that is as the one deleted
		now, err := r.read(limited)
		return err == nil && (now == nil || now.State.Observed), nil
	})
	pods, err := w.Kind.Controller(r.cluster.Client()).Pods(ctx, w)
	if err != nil {
		return err
	}
	for i := range pods {
		pod := &pods[i]
		if pod.DeletionTimestamp != nil || !hasAgent(pod) || cluster.Ready(pod) {
			continue
		}
		err := r.cluster.Client().CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return hint.With(fmt.Errorf("pod %s, whose agent is not ready, holds up the rollout: %w", pod.Name, err), "kubectl delete pod "+pod.Name)
		}
	}
	return nil
}
