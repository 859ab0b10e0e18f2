package intercept

import (
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
)

// TestCleanOwnAgent: the agent that a session made for itself stays while it is, or
// may be, in use.
func TestCleanOwnAgent(t *testing.T) {
	for name, tc := range map[string]struct {
		pod   func(*corev1.Pod) // nil: there is none
		age   time.Duration
		stays string // why; "": it is removed
	}{
		"silent":         {func(*corev1.Pod) {}, time.Hour, "is perhaps the agent of a live session: "},
		"ended":          {func(p *corev1.Pod) { p.Status = corev1.PodStatus{Phase: corev1.PodFailed} }, time.Hour, ""},
		"starting":       {func(p *corev1.Pod) { p.Status.ContainerStatuses = nil }, time.Second, "is perhaps the agent of a live session: "},
		"never started":  {func(p *corev1.Pod) { p.Status.ContainerStatuses = nil }, time.Hour, ""},
		"without a pod":  {nil, time.Hour, ""},
		"just been made": {nil, time.Second, "is perhaps the agent of a live session: "},
	} {
		play(t, name, func(t *testing.T, s *stage) {
			key, err := cluster.NewKey()
			if err != nil {
				t.Fatal(err)
			}
			job, err := inject.ConnectJob(inject.JobOptions{
				Agent: inject.Options{Image: "example.com/agent:1", Key: key}, Namespace: shop, Owner: inject.Owner{Session: "carol"},
			})
			if err != nil {
				t.Fatal(err)
			}
			job.CreationTimestamp = metav1.NewTime(time.Now().Add(-tc.age))
			s.add(jobs, job)
			if tc.pod != nil {
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "carol", Labels: map[string]string{batchv1.JobNameLabel: job.Name}}, Spec: job.Spec.Template.Spec}
				pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
					Name: pod.Spec.Containers[0].Name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
				}}
				tc.pod(pod)
				s.add(podsOf, pod)
			}
			cleaner := s.user("")
			if _, err := Clean(t.Context(), cleaner.cluster, api.CleanSpec{Timeout: time.Minute}, cleaner.hear); err != nil {
				t.Errorf("clean: %v", err)
			}
			_, err = s.tracker.Get(jobs, shop, job.Name)
			if stays := err == nil; stays != (tc.stays != "") {
				t.Errorf("it stays: %v; said %q", stays, cleaner.told())
			}
			if tc.stays != "" {
				said(t, cleaner.told(), tc.stays)
			} else if slices.Contains(cleaner.told(), "skipped") {
				t.Errorf("said %q", cleaner.told())
			}
		})
	}
}
