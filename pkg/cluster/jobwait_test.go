package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	agentapi "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

func jobPod(agent corev1.ContainerState) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod", Namespace: "shop", Labels: map[string]string{"batch.kubernetes.io/job-name": "job"}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: agentapi.ContainerName, State: agent},
		}},
	}
}

func TestWaitAgentPod(t *testing.T) {
	late := errors.New("the time is up")
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
	for name, test := range map[string]struct {
		pod    *corev1.Pod
		reason string // of a warning about the Job
		fails  []string
	}{
		"runs":     {pod: jobPod(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})},
		"no image": {pod: jobPod(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "InvalidImageName", Message: "bad"}}), fails: []string{"Job job"}},
		"waits":    {pod: jobPod(waiting), fails: []string{"ContainerCreating", late.Error()}},
		"refused":  {reason: "exceeded quota", fails: []string{"has not been made", late.Error(), "exceeded quota"}},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewClientset()
			if test.pod != nil {
				_ = client.Tracker().Add(test.pod)
			}
			if test.reason != "" {
				_ = client.Tracker().Add(&corev1.Event{
					ObjectMeta: metav1.ObjectMeta{Name: "event", Namespace: "shop"}, Type: corev1.EventTypeWarning, Message: test.reason,
				})
			}
			c, err := New(Config{Client: client, Namespace: "shop"})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if test.pod == nil {
				cancel(late)
			}
			seen := 0
			err = c.waitAgentPod(ctx, "job", func(e api.Event) {
				if strings.Contains(e.Text, "ContainerCreating") {
					cancel(late)
				}
			}, func(*corev1.Pod) { seen++ })
			if (err != nil) != (test.fails != nil) {
				t.Fatalf("error %v, want %v", err, test.fails)
			}
			for _, word := range test.fails {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("error %q does not say %q", err, word)
				}
			}
			if test.fails == nil && seen == 0 {
				t.Error("the pod was not seen")
			}
		})
	}
}
