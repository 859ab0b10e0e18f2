package inject

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

func (s *scene) client() *fake.Clientset {
	objs := []runtime.Object{s.dep.DeepCopy()}
	for i := range s.sets {
		objs = append(objs, s.sets[i].DeepCopy())
	}
	for i := range s.pods {
		objs = append(objs, s.pods[i].DeepCopy())
	}
	return fake.NewClientset(objs...)
}

// set changes the Deployment in the fake cluster, as its controller would.
func set(t *testing.T, client *fake.Clientset, change func(*appsv1.Deployment)) {
	t.Helper()
	dep, err := client.AppsV1().Deployments("shop").Get(t.Context(), "back", metav1.GetOptions{})
	if err != nil {
		t.Error(err)
		return
	}
	change(dep)
	if _, err := client.AppsV1().Deployments("shop").Update(t.Context(), dep, metav1.UpdateOptions{}); err != nil {
		t.Error(err)
	}
}

// TestWaitRollout drives a rollout by its steps and sees them reported. The clock
// is synctest's, so that it also shows how soon a change is noticed.
func TestWaitRollout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.dep.Status.ObservedGeneration = 2
		client := s.client()
		go func() {
			time.Sleep(time.Second)
			set(t, client, func(d *appsv1.Deployment) {
				d.Status.ObservedGeneration, d.Status.UpdatedReplicas, d.Status.Replicas = 3, 1, 3
			})
			time.Sleep(time.Second)
			set(t, client, func(d *appsv1.Deployment) { d.Status.UpdatedReplicas, d.Status.Replicas = 2, 2 })
		}()
		var got []string
		begin := time.Now()
		err := WaitRollout(t.Context(), client, "shop", "back", 3, func(p Progress) { got = append(got, p.String()) })
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("noticed after %s", took)
		}
		want := []string{"notice the change", "2 of 2 new pods ready, 2 old: waiting for new pods to be made", "2 of 2 pods ready"}
		if len(got) != len(want) {
			t.Fatalf("reports %q", got)
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("report %q, want %q", got[i], want[i])
			}
		}
	})
}

func TestWaitRolloutFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.unready("", corev1.ContainerStatus{Name: "app"})
		client := s.client()
		go func() {
			time.Sleep(10 * time.Second)
			pod := s.pods[0].DeepCopy()
			pod.Status.InitContainerStatuses[0] = waiting(api.ContainerName, "ErrImagePull", "connection refused")
			if _, err := client.CoreV1().Pods("shop").Update(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
				t.Error(err)
			}
		}()
		begin := time.Now()
		err := WaitRollout(t.Context(), client, "shop", "back", 3, nil)
		var re *RolloutError
		if !errors.As(err, &re) || !re.Agent() || re.Reason != "ErrImagePull" {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(begin) - 10*time.Second; took > time.Second {
			t.Errorf("noticed after %s", took)
		}
	})
}

func TestWaitRolloutGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.unready("", corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		err := WaitRollout(ctx, s.client(), "shop", "back", 3, nil)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting for container app of pod back-new-a to become ready") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("gave up after %s", took)
		}
	})
}

// TestWaitRolloutWithoutWatch: no watch works, and the API server is away for a
// while; both only cost time.
func TestWaitRolloutWithoutWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.dep.Status.UpdatedReplicas = 1
		client := s.client()
		client.PrependWatchReactor("*", func(clienttesting.Action) (bool, watch.Interface, error) {
			return true, nil, errors.New("no watching")
		})
		var away atomic.Bool
		client.PrependReactor("get", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
			return away.Load(), nil, errors.New("connection refused")
		})
		go func() {
			time.Sleep(time.Second)
			away.Store(true)
			time.Sleep(20 * time.Second)
			away.Store(false)
			set(t, client, func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 2 })
		}()
		if err := WaitRollout(t.Context(), client, "shop", "back", 3, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestWaitRolloutEndsForGood(t *testing.T) {
	for name, cause := range map[string]error{
		"deleted":   apierrors.NewNotFound(schema.GroupResource{Resource: "deployments"}, "back"),
		"forbidden": apierrors.NewForbidden(schema.GroupResource{Resource: "deployments"}, "back", nil),
		"away":      errors.New("connection refused"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := newScene(t).client()
				client.PrependReactor("get", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, cause })
				begin := time.Now()
				err := WaitRollout(t.Context(), client, "shop", "back", 3, nil)
				if !errors.Is(err, cause) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(begin); name != "away" && took != 0 || took > time.Minute {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}
