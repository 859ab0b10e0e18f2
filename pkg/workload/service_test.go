package workload

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestSelecting(t *testing.T) {
	other := service("other")
	other.Spec.Selector = map[string]string{"app": "front"}
	narrow := service("narrow")
	narrow.Spec.Selector = map[string]string{"app": "back", "track": "canary"}
	manual := service("manual")
	manual.Spec.Selector = nil
	external := service("external")
	external.Spec.Type = corev1.ServiceTypeExternalName
	back := service("back")
	client := fake.NewClientset(&other, &narrow, &manual, &external, &back)
	got, err := Selecting(t.Context(), client, "shop", map[string]string{"app": "back", "pod-template-hash": "x"})
	if err != nil || len(got) != 1 || got[0].Name != "back" {
		t.Fatalf("got %v, %v; want back alone", got, err)
	}
}
