package inject

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestDryRun(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	forbidden := func(text string) error {
		return apierrors.NewForbidden(pods, "kubectl-tele-dry-run-x", errors.New(text))
	}
	for _, tc := range []struct {
		name    string
		answer  error
		checked bool
		err     string
		hint    string
		limit   bool
	}{
		{name: "admitted", checked: true},
		{name: "no right", answer: forbidden(`User "alice" cannot create resource "pods" in API group "" in the namespace "shop"`)},
		{name: "webhook", answer: apierrors.NewBadRequest("admission webhook \"x\" does not support dry run")},
		{
			name: "Pod Security", checked: true, answer: forbidden(`violates PodSecurity "restricted:latest": runAsNonRoot != true`),
			err: `namespace shop would not admit the pod with the agent: violates PodSecurity "restricted:latest": runAsNonRoot != true`, hint: "restricted standard",
		},
		{name: "quota", checked: true, answer: forbidden("exceeded quota: q, requested: pods=1"), err: "exceeded quota", hint: "leave room for one more pod"},
		{name: "quota of limits", checked: true, answer: forbidden("failed quota: q: must specify limits.cpu for: tele-agent"), err: "limits.cpu", limit: true},
		{name: "LimitRange", checked: true, answer: forbidden("minimum memory usage per Container is 256Mi"), err: "256Mi", hint: "LimitRange"},
		{name: "invalid", checked: true, answer: apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "x", nil), err: "would not admit"},
		{name: "server away", answer: errors.New("connection refused"), err: "asking namespace shop"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := fake.NewClientset()
			client.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
				create := a.(clienttesting.CreateActionImpl)
				pod := create.GetObject().(*corev1.Pod)
				if len(create.CreateOptions.DryRun) != 1 || pod.Name != "" || pod.GenerateName == "" || pod.Namespace != "shop" {
					t.Errorf("create %+v of %+v", create.CreateOptions, pod.ObjectMeta)
				}
				return true, pod, tc.answer
			})
			checked, err := DryRun(t.Context(), client, "shop", sidecar(t, back(t), specOf(byName)).Spec.Template)
			if checked != tc.checked || NeedsCPULimit(err) != tc.limit {
				t.Errorf("checked %v, needs a CPU limit %v", checked, NeedsCPULimit(err))
			}
			if tc.err == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("got %v, want %q", err, tc.err)
			}
			if h, ok := err.(interface{ Hint() string }); tc.hint != "" && (!ok || !strings.Contains(h.Hint(), tc.hint)) {
				t.Errorf("got hint of %#v, want %q", err, tc.hint)
			}
		})
	}
}
