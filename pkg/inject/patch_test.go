package inject

import (
	"context"
	"errors"
	"fmt"
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

	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

var backRef = workload.Ref{Kind: "deployment", Name: "back"}

func TestPatch(t *testing.T) {
	old := back(t)
	old.ResourceVersion = "41"
	client := fake.NewClientset(old)
	changed := sidecar(t, old, specOf(byName))
	deployments := workload.Deployments{}.Store(client, "shop")
	out, err := Patch(t.Context(), deployments, backRef, old, changed)
	if err != nil {
		t.Fatal(err)
	}
	got := out.(*appsv1.Deployment)
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
	if same, err := Patch(t.Context(), deployments, backRef, got, got.DeepCopy()); err != nil || same != got || len(client.Actions()) > 0 {
		t.Errorf("without a difference: %v, %v", err, client.Actions())
	}

	svc := numeric(t)
	client = fake.NewClientset(svc)
	to := switched(t, svc, sidecar(t, back(t), specOf(byNumber)), alice(8080))
	gotSvc, err := Patch(t.Context(), workload.Services(client, "shop"), workload.Ref{Kind: "service", Name: "numeric"}, svc, to)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, gotSvc.(*corev1.Service).Spec, to.Spec)
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

// retry puts the agent into back.
func retry(ctx context.Context, client *fake.Clientset, update Update) (before, after workload.Object, err error) {
	return Retry(ctx, workload.Deployments{}.Store(client, "shop"), backRef, update)
}

func addAgent(now workload.Object) (workload.Object, error) {
	out, err := AddSidecar(view(now.(*appsv1.Deployment)), specOf(byName))
	if err != nil {
		return nil, err
	}
	return out.Object, nil
}

// TestRetry: each try begins with what is there now, which others change
// meanwhile.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(back(t))
		tries := conflicts(client, 4)
		reads := 0
		before, after, err := retry(t.Context(), client, func(now workload.Object) (workload.Object, error) {
			reads++
			if got := *now.(*appsv1.Deployment).Spec.Replicas; int(got) != reads+1 {
				t.Errorf("try %d has %d replicas", reads, got)
			}
			others := now.DeepCopyObject().(*appsv1.Deployment)
			*others.Spec.Replicas++
			if err := client.Tracker().Update(appsv1.SchemeGroupVersion.WithResource("deployments"), others, "shop"); err != nil {
				t.Error(err)
			}
			return addAgent(now)
		})
		if err != nil || *tries != 5 || reads != 5 {
			t.Fatalf("got %v; %d patches, %d reads", err, *tries, reads)
		}
		was, is := before.(*appsv1.Deployment), after.(*appsv1.Deployment)
		if Injected(view(was)) || !Injected(view(is)) || *was.Spec.Replicas != 6 || *is.Spec.Replicas != 7 {
			t.Errorf("before %d replicas, after %d", *was.Spec.Replicas, *is.Spec.Replicas)
		}
	})
}

func TestRetryEnds(t *testing.T) {
	t.Run("at its limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client := fake.NewClientset(back(t))
			tries := conflicts(client, 1000)
			begin := time.Now()
			_, _, err := retry(t.Context(), client, addAgent)
			if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), "others kept changing it: patching deployment/back") {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begin); *tries != conflictBackoff().Steps || took < 3*time.Second || took > 15*time.Second {
				t.Errorf("%d tries in %s", *tries, took)
			}
		})
	})
	t.Run("with its context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client := fake.NewClientset(back(t))
			conflicts(client, 1000)
			why := errors.New("the session ends")
			ctx, cancel := context.WithCancelCause(t.Context())
			begin := time.Now()
			time.AfterFunc(time.Second, func() { cancel(why) })
			_, _, err := retry(ctx, client, addAgent)
			if !errors.Is(err, why) || !strings.Contains(err.Error(), "deployment/back") || time.Since(begin) != time.Second {
				t.Errorf("got %v after %s", err, time.Since(begin))
			}
		})
	})
	t.Run("with its deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client := fake.NewClientset(back(t))
			conflicts(client, 1000)
			why := errors.New("the API server did not answer within a second")
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
			defer cancel()
			if _, _, err := retry(ctx, client, addAgent); !errors.Is(err, why) {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("before it begins", func(t *testing.T) {
		client := fake.NewClientset(back(t))
		why := errors.New("over already")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		if _, _, err := retry(ctx, client, addAgent); !errors.Is(err, why) || len(client.Actions()) > 0 {
			t.Errorf("got %v, %v", err, client.Actions())
		}
	})
}

// TestRetryEndsAtOnce with every error that is no conflict, and returns it.
func TestRetryEndsAtOnce(t *testing.T) {
	wrong := errors.New("wrong")
	slow := fmt.Errorf("http: %w (Client.Timeout exceeded)", context.DeadlineExceeded)
	for _, tc := range []struct {
		name   string
		fails  string // verb
		update Update
		cause  error
		text   string
	}{
		{name: "update", update: func(workload.Object) (workload.Object, error) { return nil, wrong }, cause: wrong, text: "wrong"},
		{name: "read", fails: "get", cause: wrong, text: "reading deployment/back: wrong"},
		{name: "write", fails: "patch", cause: wrong, text: "patching deployment/back: wrong"},
		{name: "slow read", fails: "get", cause: slow, text: "reading deployment/back: http: context deadline exceeded"},
		{name: "slow write", fails: "patch", cause: slow, text: "patching deployment/back: http: context deadline exceeded"},
	} {
		for _, after := range []int{0, 2} {
			t.Run(fmt.Sprintf("%s after %d conflicts", tc.name, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					client := fake.NewClientset(back(t))
					tries := conflicts(client, 1000)
					update := func(now workload.Object) (workload.Object, error) {
						if *tries < after || tc.update == nil {
							return addAgent(now)
						}
						return tc.update(now)
					}
					if tc.fails != "" {
						client.PrependReactor(tc.fails, "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
							return *tries >= after, nil, tc.cause
						})
					}
					_, _, err := retry(t.Context(), client, update)
					if !errors.Is(err, tc.cause) || !strings.HasPrefix(err.Error(), tc.text) {
						t.Errorf("got %v, want %q", err, tc.text)
					}
				})
			})
		}
	}
	store := workload.Services(fake.NewClientset(), "shop")
	_, _, err := Retry(t.Context(), store, workload.Ref{Kind: "service", Name: "back"}, func(now workload.Object) (workload.Object, error) { return now, nil })
	if !apierrors.IsNotFound(err) || !strings.Contains(err.Error(), "service/back") {
		t.Errorf("got %v", err)
	}
}
