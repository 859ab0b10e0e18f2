package cluster

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// AgentStarted reports whether the process of the pod's agent has been started.
// It may not listen yet.
func AgentStarted(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for _, s := range list {
			if s.Name == api.ContainerName {
				return s.State.Running != nil
			}
		}
	}
	return false
}

// ended reports whether a pod's containers have run and will not again. An evicted
// pod may stay as such for days.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
}
