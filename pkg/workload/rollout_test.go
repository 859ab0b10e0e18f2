package workload

import (
	"context"
	"errors"
	"strings"
	"sync"
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
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// rollout is the scene's rollout, of generation 3.
func (s *scene) rollout() Rollout { return Rollout{Workload: view(s.dep), Generation: 3} }

// bell tells a Rollout when to look.
type bell struct {
	mu      sync.Mutex
	changed chan struct{}
}

func newBell() *bell { return &bell{changed: make(chan struct{})} }

func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.changed = make(chan struct{})
}

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

// TestRollout drives a rollout by its steps and sees them reported. The clock
// is synctest's, so that it also shows how soon a change is noticed.
func TestRollout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.dep.Status.ObservedGeneration = 2
		client, bell := s.client(), newBell()
		go func() {
			time.Sleep(time.Second)
			set(t, client, func(d *appsv1.Deployment) {
				d.Status.ObservedGeneration, d.Status.UpdatedReplicas, d.Status.Replicas = 3, 1, 3
			})
			bell.ring()
			time.Sleep(time.Second)
			set(t, client, func(d *appsv1.Deployment) { d.Status.UpdatedReplicas, d.Status.Replicas = 2, 2 })
			bell.ring()
		}()
		var got []string
		begin := time.Now()
		r := s.rollout()
		r.Changed, r.Report = bell.next, func(p Progress) { got = append(got, p.String()) }
		if err := r.Wait(t.Context(), client); err != nil {
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

func TestRolloutFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.unready("", corev1.ContainerStatus{Name: "app"})
		client, bell := s.client(), newBell()
		go func() {
			time.Sleep(10 * time.Second)
			pod := s.pods[0].DeepCopy()
			pod.Status.InitContainerStatuses[0] = waiting(api.ContainerName, "ErrImagePull", "connection refused")
			if _, err := client.CoreV1().Pods("shop").Update(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
				t.Error(err)
			}
			bell.ring()
		}()
		begin := time.Now()
		r := s.rollout()
		r.Changed = bell.next
		err := r.Wait(t.Context(), client)
		var re *RolloutError
		if !errors.As(err, &re) || !re.Agent() || re.Reason != "ErrImagePull" {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(begin) - 10*time.Second; took > time.Second {
			t.Errorf("noticed after %s", took)
		}
	})
}

func TestRolloutGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.unready("", corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		err := s.rollout().Wait(ctx, s.client())
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting for container app of pod back-new-a to become ready") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("gave up after %s", took)
		}
	})
}

// TestRolloutWithoutEvents: nothing says that there was a change, and the API
// server is away for a while; both only cost time.
func TestRolloutWithoutEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.dep.Status.UpdatedReplicas = 1
		client := s.client()
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
		if err := s.rollout().Wait(t.Context(), client); err != nil {
			t.Error(err)
		}
	})
}

func TestRolloutEndsForGood(t *testing.T) {
	for name, cause := range map[string]error{
		"deleted":   apierrors.NewNotFound(schema.GroupResource{Resource: "deployments"}, "back"),
		"forbidden": apierrors.NewForbidden(schema.GroupResource{Resource: "deployments"}, "back", nil),
		"away":      errors.New("connection refused"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene()
				client := s.client()
				client.PrependReactor("get", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, cause })
				begin := time.Now()
				err := s.rollout().Wait(t.Context(), client)
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

// TestRolloutIsLookedAtInPeace: a cluster full of changes is not asked without
// pause.
func TestRolloutIsLookedAtInPeace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.available(1)
		client := s.client()
		looks := 0
		client.PrependReactor("get", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
			looks++
			return false, nil, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		always := make(chan struct{})
		close(always)
		r := s.rollout()
		r.Changed = func() <-chan struct{} { return always }
		if err := r.Wait(ctx, client); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if most := int(10*time.Second/lookPause) + 1; looks > most {
			t.Errorf("looked %d times in 10 seconds", looks)
		}
	})
}

// TestRolloutNeedsReplicaSets: without the right to list them a rollout cannot be
// judged, and waiting does not help.
func TestRolloutNeedsReplicaSets(t *testing.T) {
	s := newScene()
	client := s.client()
	forbidList(client, "replicasets")
	if err := s.rollout().Wait(t.Context(), client); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "listing ReplicaSets of deployment/back") {
		t.Errorf("got %v", err)
	}
}
