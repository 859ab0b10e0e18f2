package inject

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestPatch(t *testing.T) {
	old := back(t)
	old.ResourceVersion = "41"
	client := fake.NewClientset(old)
	changed := sidecar(t, old, plan(byName))
	got, err := Patch(t.Context(), client, old, changed)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got.Spec, changed.Spec)
	action := client.Actions()[0].(clienttesting.PatchActionImpl)
	patch := string(action.GetPatch())
	if action.PatchOptions.FieldManager != FieldManager || !strings.Contains(patch, `"resourceVersion":"41"`) {
		t.Errorf("options %+v, patch %s", action.PatchOptions, patch)
	}
	for _, untouched := range []string{"replicas", "example.com/back", "selector", `"status":`, "team"} {
		if strings.Contains(patch, untouched) {
			t.Errorf("the patch speaks of %s: %s", untouched, patch)
		}
	}

	client.ClearActions()
	if same, err := Patch(t.Context(), client, got, got.DeepCopy()); err != nil || same != got || len(client.Actions()) > 0 {
		t.Errorf("without a difference: %v, %v", err, client.Actions())
	}

	svc := numeric(t)
	services := fake.NewClientset(svc)
	to := switched(t, svc, sidecar(t, back(t), plan(byNumber)), alice(8080))
	gotSvc, err := Patch(t.Context(), services, svc, to)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, gotSvc.Spec, to.Spec)
}

// conflicts makes the first n patches conflicts.
func conflicts(client *fake.Clientset, n int) *int {
	tries := 0
	client.PrependReactor("patch", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		tries++
		if tries > n {
			return false, nil, nil
		}
		return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: a.GetResource().Resource}, "back", errors.New("changed"))
	})
	return &tries
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(back(t))
		tries := conflicts(client, 4)
		reads := 0
		got, err := RetryDeployment(t.Context(), client, "shop", "back", func(d *appsv1.Deployment) (*appsv1.Deployment, error) {
			reads++
			return Sidecar(d, plan(byName))
		})
		if err != nil || !Injected(got) || *tries != 5 || reads != 5 {
			t.Errorf("got %v; %d patches, %d reads", err, *tries, reads)
		}
	})
}

func TestRetryEnds(t *testing.T) {
	mutate := func(d *appsv1.Deployment) (*appsv1.Deployment, error) { return Sidecar(d, plan(byName)) }
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(back(t))
		tries := conflicts(client, 1000)
		begin := time.Now()
		_, err := RetryDeployment(t.Context(), client, "shop", "back", mutate)
		if !apierrors.IsConflict(err) || *tries != maxTries || time.Since(begin) > 15*time.Second {
			t.Errorf("got %v after %d tries and %s", err, *tries, time.Since(begin))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(back(t))
		tries := conflicts(client, 1000)
		wrong := errors.New("wrong")
		_, err := RetryDeployment(t.Context(), client, "shop", "back", func(*appsv1.Deployment) (*appsv1.Deployment, error) { return nil, wrong })
		if !errors.Is(err, wrong) || *tries != 0 {
			t.Errorf("got %v after %d tries", err, *tries)
		}
	})
	if _, err := RetryService(t.Context(), fake.NewClientset(), "shop", "back", func(s *corev1.Service) (*corev1.Service, error) { return s, nil }); !apierrors.IsNotFound(err) || !strings.Contains(err.Error(), "service/back") {
		t.Errorf("got %v", err)
	}
}
