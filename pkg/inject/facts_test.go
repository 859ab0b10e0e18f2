package inject

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// forbid makes the API server refuse a verb on a resource.
func forbid(client *fake.Clientset, verb, resource string) {
	client.PrependReactor(verb, resource, func(a clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: a.GetResource().Resource}, "", nil)
	})
}

func TestGather(t *testing.T) {
	all := services(t)
	other := corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "other", Namespace: "shop"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "front"}}}
	dep := ready(t)
	client := fake.NewClientset(&all[0], &all[1], &other, dep,
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "shop"}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "other"}})
	client.PrependReactor("list", "networkpolicies", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "networkpolicies"}, "", nil)
	})
	f, err := gather(t.Context(), client, workload.AllKinds(), view(dep), all[:1])
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Services) != 1 || len(f.Selecting) != 2 || len(f.Pods) != 1 || len(f.Workloads) != 1 ||
		!slices.Equal(f.Unknown, []string{"networkpolicies.networking.k8s.io"}) {
		t.Errorf("got %+v", f)
	}
	forbid(client, "list", "deployments")
	if f, err = gather(t.Context(), client, workload.AllKinds(), view(dep), nil); err != nil || !slices.Equal(f.Unknown, []string{"deployments.apps", "networkpolicies.networking.k8s.io"}) {
		t.Errorf("got %+v, %v", f, err)
	}
	client.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewServerTimeout(schema.GroupResource{Resource: "pods"}, "list", 1)
	})
	if _, err := gather(t.Context(), client, workload.AllKinds(), view(dep), nil); err == nil || !strings.Contains(err.Error(), "reading pods in namespace shop") {
		t.Errorf("got %v", err)
	}
}

// TestGatherOwnPods: the workload's own pods are known even where ReplicaSets may
// not be listed, and then nothing else leads there.
func TestGatherOwnPods(t *testing.T) {
	podLabels := map[string]string{"app": "back"}
	for _, readable := range []bool{true, false} {
		client := fake.NewClientset(
			&appsv1.ReplicaSet{ObjectMeta: ownedBy("back-1", "Deployment", "dep", podLabels)},
			&corev1.Pod{ObjectMeta: ownedBy("back-1-a", "ReplicaSet", "back-1", podLabels)},
			ready(t))
		if !readable {
			forbid(client, "list", "replicasets")
		}
		f, err := gather(t.Context(), client, workload.AllKinds(), view(ready(t)), services(t))
		if err != nil || len(f.Own) != 1 || !f.Own["back-1-a"] || len(f.Unknown) > 0 {
			t.Fatalf("got %+v, %v", f, err)
		}
		if err := check(t, ready(t), specOf(byBoth), f, false); err != nil {
			t.Errorf("refused: %v", err)
		}
	}
}
