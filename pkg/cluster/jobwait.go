package cluster

import (
	"context"
	"errors"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// waitAgentPod returns when the agent of the Job's pod runs, when the pod shows
// that it cannot run, or when ctx ends. It calls seen with each state of the pod,
// and reports to p what the pod waits for.
func (c *Cluster) waitAgentPod(ctx context.Context, job string, p api.Progress, seen func(*corev1.Pod)) error {
	watchCtx, stop := context.WithCancel(ctx)
	defer stop()
	waitsFor := "its pod has not been made"
	var (
		started bool
		err     error
	)
	pods := Objects(c.cfg.Client.CoreV1().Pods(c.cfg.Namespace), metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + job})
	c.Watch(watchCtx, pods, &corev1.Pod{}, Watcher{Seen: func(obj runtime.Object, _ bool) {
		pod, ok := obj.(*corev1.Pod)
		if !ok || watchCtx.Err() != nil {
			return
		}
		if err = workload.PodFailure(pod); err != nil {
			stop()
			return
		}
		if now := podWaitsFor(pod); now != "" && now != waitsFor {
			waitsFor = now
			p.Doing("agent " + pod.Name + ": " + now)
		}
		seen(pod)
		if AgentStarted(pod) {
			started = true
			stop()
		}
	}})
	if started {
		return nil
	}
	if err == nil {
		err = context.Cause(ctx)
		if !errors.Is(err, errDialled) {
			err = fmt.Errorf("%s: %w", waitsFor, err)
			if why := c.jobWarning(context.WithoutCancel(ctx), job); why != "" {
				err = fmt.Errorf("%w (%s)", err, why)
			}
		}
	}
	return fmt.Errorf("start the agent of Job %s: %w", job, err)
}

// jobWarning returns the last warning about the Job, "" if there is none: a quota
// or an admission policy that refuses its pod is reported nowhere else.
func (c *Cluster) jobWarning(ctx context.Context, job string) string {
	ctx, cancel := RequestContext(ctx)
	defer cancel()
	events, err := c.cfg.Client.CoreV1().Events(c.cfg.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"involvedObject.name": job, "type": corev1.EventTypeWarning}.String(),
	})
	if err != nil || len(events.Items) == 0 {
		return ""
	}
	return events.Items[len(events.Items)-1].Message
}

// podWaitsFor returns in a few words what a pod is waiting for, "" if nothing is
// known.
func podWaitsFor(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return "not scheduled: " + c.Message
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil && w.Reason != "" {
			return w.Reason
		}
	}
	return ""
}
