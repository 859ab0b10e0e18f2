package intercept

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// replaceLimit bounds waiting for pods that are being replaced. Kubernetes gives a
// pod 30 s to end unless its spec says otherwise.
const replaceLimit = time.Minute

// replaceEvery is how often they are looked for when nothing says that they changed.
const replaceEvery = time.Second

// hasAgent reports whether an agent is in the pod.
func hasAgent(pod *corev1.Pod) bool {
	_, ok := inject.AgentIn(&pod.Spec)
	return ok
}

// podCaptures reports whether the pod has an agent that captures the app's port.
func podCaptures(pod *corev1.Pod, port agent.Port) bool {
	found, ok := inject.AgentIn(&pod.Spec)
	return ok && slices.ContainsFunc(found.Captures, func(c inject.Capture) bool { return c.Port() == port })
}

// running returns the pods that are not on their way out and whose agent has been
// started.
func running(pods []corev1.Pod) []corev1.Pod {
	var out []corev1.Pod
	for _, pod := range pods {
		if pod.DeletionTimestamp == nil && cluster.AgentStarted(&pod) {
			out = append(out, pod)
		}
	}
	return out
}

// waitRollout reports a rollout's progress until it is complete.
func waitRollout(ctx context.Context, c *cluster.Cluster, w *workload.Workload, changed func() <-chan struct{}, p api.Progress) error {
	return workload.Rollout{
		Workload: w, Generation: w.Object.GetGeneration(), Changed: changed,
		Report: func(now workload.Progress) {
			if !now.Completed {
				p.Doing(fmt.Sprintf("%s: %s", w, now))
			}
		},
	}.Wait(ctx, c.Client())
}

// waitReplaced waits until the workload's pods that are old and are being deleted are
// gone: clients keep their connections to them alive until then. When a minute
// was not enough it says so and returns nil.
func waitReplaced(ctx context.Context, c *cluster.Cluster, w *workload.Workload, changed func() <-chan struct{}, old func(*corev1.Pod) bool, p api.Progress) error {
	limit := time.After(replaceLimit)
	said := ""
	for {
		wake := changed()
		names, err := ending(ctx, c, w, old)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			c.Log().Debug("pods not listed", "workload", w.String(), "err", err)
		case len(names) == 0:
			return nil
		}
		if text := fmt.Sprintf("waiting for old pods to end, to which clients may keep connections: %s", strings.Join(names, ", ")); err == nil && text != said {
			said = text
			p.Doing(text)
		}
		select {
		case <-wake:
			// Several events may come at once; each look is a request.
			select {
			case <-time.After(replaceEvery / 5):
			case <-ctx.Done():
			}
		case <-time.After(replaceEvery):
		case <-ctx.Done():
		case <-limit:
			p.Warn(fmt.Sprintf("old pods have not ended after %s: connections that clients keep alive to them stay there until they do: %s",
				replaceLimit, strings.Join(names, ", ")))
			return nil
		}
	}
}

// ending names the old pods of the workload that are being deleted.
func ending(ctx context.Context, c *cluster.Cluster, w *workload.Workload, old func(*corev1.Pod) bool) ([]string, error) {
	ctx, cancel := cluster.RequestContext(ctx)
	defer cancel()
	pods, err := w.Kind.Controller(c.Client()).Pods(ctx, w)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range pods {
		if pods[i].DeletionTimestamp != nil && old(&pods[i]) {
			names = append(names, pods[i].Name)
		}
	}
	return names, nil
}
