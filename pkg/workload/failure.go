package workload

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// RolloutError is why a rollout will not become complete.
type RolloutError struct {
	Workload  Ref    // the zero value when the pod is of none
	Pod       string // "" when no pod could be made
	Container string
	Reason    string // Kubernetes' own word: ErrImagePull, FailedCreate, ProgressDeadlineExceeded
	Message   string
}

func (e *RolloutError) Error() string {
	var where []string
	if e.Workload != (Ref{}) {
		where = append(where, e.Workload.String())
	}
	if e.Pod != "" {
		where = append(where, "pod "+e.Pod)
	}
	if e.Container != "" {
		where = append(where, "container "+e.Container)
	}
	text := strings.Join(where, ", ") + ": " + e.Reason
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Agent reports whether it is our container that failed.
func (e *RolloutError) Agent() bool { return e.Container == api.ContainerName }

// Hint says what to do about it.
func (e *RolloutError) Hint() string {
	switch {
	case e.Agent() && slices.Contains(pullReasons, e.Reason):
		return "the cluster cannot pull the agent's image: --agent-image or TELE_AGENT_IMAGE names another, such as a copy in your own registry"
	case e.Agent():
		return "--agent-image or TELE_AGENT_IMAGE names another agent"
	case e.Pod == "":
		return "the namespace does not admit the pods: a quota or a policy is in the way"
	case slices.Contains(pullReasons, e.Reason):
		return "the workload's own image cannot be pulled any more"
	}
	return fmt.Sprintf("kubectl logs %s -c %s --previous", e.Pod, e.Container)
}

var (
	pullReasons = []string{"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError"}
	dieReasons  = []string{"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"}
)

// PodFailure returns a *RolloutError if a container of the pod cannot start or
// keeps dying, else nil.
func PodFailure(pod *corev1.Pod) error {
	if failure := podFailure(pod); failure != nil {
		return failure
	}
	return nil
}

func podFailure(pod *corev1.Pod) *RolloutError {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, s := range list {
			if failure := failed(s); failure != nil {
				failure.Pod = pod.Name
				return failure
			}
		}
	}
	return nil
}

func failed(s corev1.ContainerStatus) *RolloutError {
	w := s.State.Waiting
	if w == nil || !slices.Contains(pullReasons, w.Reason) && !slices.Contains(dieReasons, w.Reason) {
		return nil
	}
	message := w.Message
	if t := s.LastTerminationState.Terminated; t != nil {
		message = fmt.Sprintf("exit code %d", t.ExitCode)
		if text := strings.TrimSpace(t.Message); text != "" {
			message += ": " + lastLine(text)
		}
	}
	return &RolloutError{Container: s.Name, Reason: w.Reason, Message: message}
}

func lastLine(s string) string {
	lines := strings.Split(s, "\n")
	line := lines[len(lines)-1]
	if len(line) > 300 {
		line = line[:300] + "..."
	}
	return line
}
