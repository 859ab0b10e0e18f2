package inject

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

func replicaSet(name, of string, template corev1.PodTemplateSpec, want, have int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: ownedBy(name, "Deployment", of, map[string]string{"app": "back"}),
		Spec:       appsv1.ReplicaSetSpec{Replicas: &want, Template: template},
		Status:     appsv1.ReplicaSetStatus{Replicas: have},
	}
}

func TestFind(t *testing.T) {
	clean := ready(t)
	clean.Name, clean.UID = "clean", "clean"
	injected := sidecar(t, ready(t), specOf(byBoth))
	broken := injected.DeepCopy()
	broken.Name, broken.UID = "broken", "broken"
	broken.Annotations[AnnotationUndo] = "{"
	bare := injected.DeepCopy()
	bare.Name, bare.UID, bare.Annotations = "bare", "bare", nil
	svc := switched(t, numeric(t), injected, alice(8080))
	lost := svc.DeepCopy()
	lost.Name, lost.Annotations = "lost", nil
	plain := services(t)[0]
	job, err := ConnectJob(JobOptions{Agent: agentOptions(), Namespace: "shop", Owner: bob(0)})
	if err != nil {
		t.Fatal(err)
	}
	foreign := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "foreign", Namespace: "shop"}}
	template := injected.Spec.Template
	client := fake.NewClientset(clean, injected, broken, bare, svc, lost, &plain, job, foreign,
		replicaSet("kept", "clean", template, 0, 0),
		replicaSet("busy", "clean", template, 0, 1),
		replicaSet("innocent", "clean", clean.Spec.Template, 0, 0),
		replicaSet("of-injected", "dep", template, 0, 0))
	found, err := Find(t.Context(), client, workload.AllKinds(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range found {
		owners := make([]string, 0, len(l.Owners))
		for _, o := range l.Owners {
			owners = append(owners, o.String())
		}
		got = append(got, fmt.Sprintf("%s %v %v", l, owners, l.Damaged != ""))
	}
	want := []string{
		"service/lost [] true",
		"service/numeric [alice@laptop] false",
		"deployment/back [alice@laptop] false",
		"deployment/bare [] true",
		"deployment/broken [] true",
		"replicaset/kept [] false",
		"job/kubectl-tele-s-bob [bob@desk] false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFindWithFewRights(t *testing.T) {
	client := fake.NewClientset(sidecar(t, ready(t), specOf(byName)))
	client.PrependReactor("list", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetResource().Resource == "deployments" {
			return false, nil, nil
		}
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: a.GetResource().Resource}, "", nil)
	})
	found, err := Find(t.Context(), client, workload.AllKinds(), "shop")
	if err != nil || len(found) != 1 || found[0].String() != "deployment/back" {
		t.Errorf("got %v, %v", found, err)
	}
	client.PrependReactor("list", "services", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("connection refused")
	})
	if _, err := Find(t.Context(), client, workload.AllKinds(), "shop"); err == nil || !strings.Contains(err.Error(), "listing Services in namespace shop") {
		t.Errorf("got %v", err)
	}
}

func TestFindWithNoRights(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("list", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: a.GetResource().Resource}, "", nil)
	})
	if found, err := Find(t.Context(), client, workload.AllKinds(), "shop"); !apierrors.IsForbidden(err) {
		t.Errorf("got %v, %v: nobody knows what is there", found, err)
	}
}

func TestDeleteRevisions(t *testing.T) {
	dep := ready(t)
	injected := sidecar(t, dep, specOf(byName))
	ours := injected.Spec.Template
	client := fake.NewClientset(
		replicaSet("ours", "dep", ours, 0, 0),
		replicaSet("draining", "dep", ours, 0, 1),
		replicaSet("wanted", "dep", ours, 1, 0),
		replicaSet("theirs", "dep", dep.Spec.Template, 0, 0),
		replicaSet("another's", "other", ours, 0, 0),
		replicaSet("taken", "dep", ours, 0, 0))
	client.PrependReactor("delete", "replicasets", func(a clienttesting.Action) (bool, runtime.Object, error) {
		del := a.(clienttesting.DeleteActionImpl)
		if del.DeleteOptions.Preconditions == nil || *del.DeleteOptions.Preconditions.UID != types.UID(del.Name) {
			t.Errorf("deleting %s without a condition", del.Name)
		}
		if del.Name == "taken" {
			return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "replicasets"}, "taken", errors.New("changed"))
		}
		return false, nil, nil
	})
	if got, err := DeleteRevisions(t.Context(), client, view(injected)); err != nil || len(got) > 0 {
		t.Errorf("while the agent is there: %v, %v", got, err)
	}
	got, err := DeleteRevisions(t.Context(), client, view(dep))
	if err != nil || !slices.Equal(got, []string{"ours"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := DeleteRevisions(t.Context(), client, view(dep)); err != nil || len(got) > 0 {
		t.Errorf("again: %v, %v", got, err)
	}
}
