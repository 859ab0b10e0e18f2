package workload

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// assess judges a rollout from one look at the cluster.
func assess(dep *appsv1.Deployment, generation int64, sets []appsv1.ReplicaSet, pods []corev1.Pod) (Progress, error) {
	ref := Ref{Kind: "deployment", Name: dep.Name}
	status := &dep.Status
	p := Progress{Want: replicas(dep)}
	if status.ObservedGeneration < max(generation, dep.Generation) {
		p.Waiting = "the Deployment controller to notice the change"
		return p, nil
	}
	if dep.Spec.Paused {
		return p, &RolloutError{Workload: ref, Reason: "Paused", Message: "the Deployment was paused meanwhile"}
	}
	p.Updated, p.Old = status.UpdatedReplicas, status.Replicas-status.UpdatedReplicas
	current := currentSet(dep, sets)
	if current != nil {
		p.Ready = current.Status.AvailableReplicas // the Deployment's own figure counts the old ones too
	}
	waiting, err := assessPods(dep, current, pods, &p)
	if err != nil {
		return p, err
	}
	if current != nil {
		for _, c := range current.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
				return p, &RolloutError{Workload: ref, Reason: c.Reason, Message: c.Message}
			}
		}
	}
	for _, c := range status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse && c.Reason == "ProgressDeadlineExceeded" {
			message := c.Message
			if waiting != "" {
				message += "; it waits for " + waiting
			}
			return p, &RolloutError{Workload: ref, Reason: c.Reason, Message: message}
		}
	}
	switch {
	case status.UpdatedReplicas < p.Want:
		p.Waiting = "new pods to be made"
	case p.Old > 0:
		p.Waiting = "old pods to go"
	case status.AvailableReplicas < p.Want:
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

// currentSet is the ReplicaSet of the Deployment's latest revision.
func currentSet(dep *appsv1.Deployment, sets []appsv1.ReplicaSet) *appsv1.ReplicaSet {
	for i := range sets {
		if metav1.IsControlledBy(&sets[i], dep) && revision(&sets[i]) == revision(dep) {
			return &sets[i]
		}
	}
	return nil
}

// assessPods looks at the new pods: the first that cannot start is an error, the
// first that has not started yet is what is waited for.
func assessPods(dep *appsv1.Deployment, current *appsv1.ReplicaSet, pods []corev1.Pod, p *Progress) (waiting string, err error) {
	for i := range pods {
		pod := &pods[i]
		if pod.DeletionTimestamp != nil {
			p.Ending++
			continue
		}
		if current == nil || !metav1.IsControlledBy(pod, current) {
			continue
		}
		if failure := podFailure(pod); failure != nil {
			failure.Workload = Ref{Kind: "deployment", Name: dep.Name}
			return "", failure
		}
		if waiting == "" {
			waiting = waitsFor(pod)
		}
	}
	return waiting, nil
}

// waitsFor says what a pod that is not ready lacks.
func waitsFor(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		switch {
		case c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue:
			return ""
		case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse:
			return fmt.Sprintf("pod %s to be scheduled (%s)", pod.Name, c.Message)
		}
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, s := range list {
			switch {
			case s.Ready, s.State.Terminated != nil && s.State.Terminated.ExitCode == 0:
			case s.State.Waiting != nil && s.State.Waiting.Reason != "PodInitializing":
				return fmt.Sprintf("container %s of pod %s (%s)", s.Name, pod.Name, s.State.Waiting.Reason)
			case s.State.Running != nil:
				return fmt.Sprintf("container %s of pod %s to become ready", s.Name, pod.Name)
			}
		}
	}
	return fmt.Sprintf("pod %s to start", pod.Name)
}
