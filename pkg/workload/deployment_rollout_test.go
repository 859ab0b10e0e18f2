package workload

import (
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

var since = time.Date(2026, 11, 5, 9, 30, 0, 0, time.UTC)

// ready is a Deployment of two pods with its rollout complete.
func ready() *appsv1.Deployment {
	dep := deployment(container("app", tcp("http", 8080)))
	dep.UID, dep.Generation = "dep", 3
	dep.Annotations = map[string]string{}
	dep.Spec.Replicas = new(int32(2))
	dep.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "back"}}
	dep.Status = appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2}
	return dep
}

func ownedBy(name, kind, uid string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Namespace: "shop", Labels: map[string]string{"app": "back"}, UID: types.UID(name),
		OwnerReferences: []metav1.OwnerReference{{Kind: kind, Name: uid, UID: types.UID(uid), Controller: new(true)}},
	}
}

const revisionKey = "deployment.kubernetes.io/revision"

// scene is a rollout of two pods, complete unless a test changes it.
type scene struct {
	dep  *appsv1.Deployment
	sets []appsv1.ReplicaSet
	pods []corev1.Pod
}

func newScene() *scene {
	s := &scene{dep: ready()}
	s.dep.Annotations[revisionKey] = "2"
	for i, name := range []string{"back-old", "back-new"} {
		rs := appsv1.ReplicaSet{ObjectMeta: ownedBy(name, "Deployment", "dep")}
		rs.Annotations = map[string]string{revisionKey: []string{"1", "2"}[i]}
		rs.Status.AvailableReplicas = 2 * int32(i)
		s.sets = append(s.sets, rs)
	}
	for _, name := range []string{"back-new-a", "back-new-b"} {
		pod := corev1.Pod{ObjectMeta: ownedBy(name, "ReplicaSet", "back-new")}
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: api.ContainerName, Ready: true}}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", Ready: true}}
		s.pods = append(s.pods, pod)
	}
	return s
}

func (s *scene) available(n int32) {
	s.dep.Status.AvailableReplicas, s.sets[1].Status.AvailableReplicas = n, n
}

// unready makes the first new pod wait for a container.
func (s *scene) unready(list string, status corev1.ContainerStatus) {
	s.available(1)
	pod := &s.pods[0]
	pod.Status.Conditions[0].Status = corev1.ConditionFalse
	if list == "init" {
		pod.Status.InitContainerStatuses[0] = status
		return
	}
	pod.Status.ContainerStatuses[0] = status
}

func waiting(container, reason, message string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: container, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
}

func TestAssess(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*scene)
		want   string
		err    string
		hint   string
	}{
		{name: "complete", want: "2 of 2 pods ready"},
		{name: "not noticed", change: func(s *scene) { s.dep.Status.ObservedGeneration = 2 }, want: "waiting for the Deployment controller to notice the change"},
		{
			name: "old errors do not count before it is noticed", want: "to notice",
			change: func(s *scene) {
				s.dep.Status.ObservedGeneration = 2
				s.dep.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}}
			},
		},
		{name: "paused", change: func(s *scene) { s.dep.Spec.Paused = true }, err: "paused meanwhile"},
		{name: "none made", change: func(s *scene) { s.dep.Status.UpdatedReplicas, s.sets[1].Status.AvailableReplicas, s.pods = 0, 0, nil }, want: "0 of 2 new pods ready, 2 old: waiting for new pods to be made"},
		{name: "old pods left", change: func(s *scene) { s.dep.Status.Replicas = 3 }, want: "2 of 2 new pods ready, 1 old: waiting for old pods to go"},
		{name: "not available", change: func(s *scene) { s.available(1) }, want: "1 of 2 new pods ready, 0 old: waiting for new pods to become ready"},
		{
			name: "starting", want: "waiting for container app of pod back-new-a to become ready",
			change: func(s *scene) {
				s.unready("", corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
			},
		},
		{name: "creating", want: "container app of pod back-new-a (ContainerCreating)", change: func(s *scene) { s.unready("", waiting("app", "ContainerCreating", "")) }},
		{name: "initializing", want: "pod back-new-a to start", change: func(s *scene) { s.unready("", waiting("app", "PodInitializing", "")) }},
		{
			name: "unschedulable", want: "pod back-new-a to be scheduled (0/2 nodes are available)",
			change: func(s *scene) {
				s.dep.Status.AvailableReplicas = 1
				s.pods[0].Status = corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/2 nodes are available"}}}
			},
		},
		{
			name: "agent's image", err: "deployment/back, pod back-new-a, container tele-agent: ErrImagePull: no such host", hint: "--agent-image or TELE_AGENT_IMAGE names another",
			change: func(s *scene) { s.unready("init", waiting(api.ContainerName, "ErrImagePull", "no such host")) },
		},
		{name: "app's image", err: "container app: ImagePullBackOff", hint: "own image", change: func(s *scene) { s.unready("", waiting("app", "ImagePullBackOff", "")) }},
		{name: "agent's configuration", err: "CreateContainerConfigError: root", hint: "another agent", change: func(s *scene) { s.unready("init", waiting(api.ContainerName, "CreateContainerConfigError", "root")) }},
		{
			name: "crash", err: "container app: CrashLoopBackOff: exit code 2: boom", hint: "kubectl logs back-new-a -c app --previous",
			change: func(s *scene) {
				status := waiting("app", "CrashLoopBackOff", "back-off 10s")
				status.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 2, Message: "first\nboom\n"}
				s.unready("", status)
			},
		},
		{
			name: "an old pod's crash does not count", want: "2 of 2 pods ready",
			change: func(s *scene) {
				s.pods[0].OwnerReferences[0].UID = "back-old"
				s.pods[0].Status.ContainerStatuses[0] = waiting("app", "CrashLoopBackOff", "")
			},
		},
		{
			name: "an ending pod's crash does not count", want: "2 of 2 pods ready",
			change: func(s *scene) {
				s.pods[0].DeletionTimestamp = &metav1.Time{Time: since}
				s.pods[0].Status.ContainerStatuses[0] = waiting("app", "CrashLoopBackOff", "")
			},
		},
		{
			name: "not admitted", err: "deployment/back: FailedCreate: exceeded quota", hint: "a quota or a policy",
			change: func(s *scene) {
				s.dep.Status.UpdatedReplicas, s.pods = 0, nil
				s.sets[1].Status.Conditions = []appsv1.ReplicaSetCondition{{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: "exceeded quota"}}
			},
		},
		{
			name: "deadline", err: "ProgressDeadlineExceeded: timed out; it waits for container app",
			change: func(s *scene) {
				s.unready("", corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
				s.dep.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded", Message: "timed out"}}
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScene()
			if tc.change != nil {
				tc.change(s)
			}
			p, err := assess(s.dep, 3, s.sets, s.pods)
			if tc.err == "" {
				if err != nil || !strings.Contains(p.String(), tc.want) {
					t.Fatalf("got %q, %v; want %q", p, err, tc.want)
				}
				if p.Completed != (p.Waiting == "") {
					t.Errorf("completed %v, but waiting for %q", p.Completed, p.Waiting)
				}
				return
			}
			var re *RolloutError
			if !errors.As(err, &re) || !strings.Contains(err.Error(), tc.err) || !strings.Contains(re.Hint(), tc.hint) {
				t.Fatalf("got %v (%#v), want %q, hint %q", err, re, tc.err, tc.hint)
			}
		})
	}
}
