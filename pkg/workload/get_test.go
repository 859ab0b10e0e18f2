package workload

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func named(name string) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"}}
}

func TestGet(t *testing.T) {
	for _, tc := range []struct {
		name string
		have []string
		want string
		err  string
		hint string
	}{
		{name: "there", have: []string{"back"}, want: "back"},
		{name: "slip", have: []string{"back", "front", "store"}, want: "abck", err: "there is no deployment/abck in namespace shop", hint: "did you mean back?"},
		{name: "part", have: []string{"shop-back", "front"}, want: "back", err: "there is no", hint: "did you mean shop-back?"},
		{name: "others", have: []string{"front", "store"}, want: "payment", err: "there is no", hint: "Deployments in namespace shop: front, store"},
		{name: "many", have: []string{"a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"}, want: "payment", err: "there is no", hint: "a8 and 1 more"},
		{name: "none", want: "back", err: "there is no", hint: "has no Deployments; -n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := fake.NewClientset()
			for _, n := range tc.have {
				if err := client.Tracker().Add(named(n)); err != nil {
					t.Fatal(err)
				}
			}
			w, err := AllKinds().Get(t.Context(), client, "shop", Ref{Kind: "deployment", Name: tc.want})
			if tc.err == "" {
				if err != nil || w.Name != tc.want || w.Object.GetName() != tc.want || w.Kind != (Deployments{}) {
					t.Fatalf("got %v, %v", w, err)
				}
				return
			}
			wantError(t, err, tc.err, tc.hint)
			if !apierrors.IsNotFound(err) {
				t.Error("the error does not wrap NotFound")
			}
		})
	}
}

func TestGetForbidden(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("get", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "deployments"}, "back", nil)
	})
	_, err := AllKinds().Get(t.Context(), client, "other", Ref{Kind: "deployment", Name: "back"})
	wantError(t, err, "is not allowed", "right to get deployments.apps in namespace other")
	if !apierrors.IsForbidden(err) {
		t.Error("the error does not wrap Forbidden")
	}
}
