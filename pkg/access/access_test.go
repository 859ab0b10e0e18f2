package access_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
)

// reviewer answers reviews: denied verbs are not allowed, failing ones fail.
func reviewer(t *testing.T, denied, failing []string) *fake.Clientset {
	t.Helper()
	client := fake.NewClientset()
	client.PrependReactor("create", "selfsubjectaccessreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
		review := a.(ktesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
		attrs := review.Spec.ResourceAttributes
		if attrs.Namespace != "shop" {
			t.Errorf("asked about namespace %q", attrs.Namespace)
		}
		right := access.Right{Verb: attrs.Verb, Group: attrs.Group, Resource: attrs.Resource, Subresource: attrs.Subresource}.String()
		if slices.Contains(failing, right) {
			return true, nil, errors.New("reviews are forbidden")
		}
		review.Status.Allowed = !slices.Contains(denied, right)
		return true, review, nil
	})
	return client
}

func TestCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		denied, failing []string
		want            []string
		wantErr         bool
	}{
		"all there":       {},
		"one missing":     {denied: []string{"create pods/portforward"}, want: []string{"create pods/portforward"}},
		"in order":        {denied: []string{"delete jobs.batch", "list pods"}, want: []string{"list pods", "delete jobs.batch"}},
		"refused":         {failing: []string{"list pods"}, wantErr: true},
		"refused, lacks":  {failing: []string{"list pods"}, denied: []string{"list services"}, want: []string{"list services"}},
		"other's feature": {denied: []string{"patch deployments.apps"}},
	} {
		t.Run(name, func(t *testing.T) {
			client := reviewer(t, tc.denied, tc.failing)
			missing, err := access.Check(t.Context(), client.AuthorizationV1(), "shop", access.Needs(access.Connect))
			if (err != nil) != tc.wantErr {
				t.Errorf("error %v, want one: %v", err, tc.wantErr)
			}
			var got []string
			for _, r := range missing {
				got = append(got, r.String())
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("missing %v, want %v", got, tc.want)
			}
		})
	}
}

func TestMissingErrorNamesWhatIsMissing(t *testing.T) {
	err := &access.MissingError{Feature: access.Intercept, Namespace: "shop", Rights: []access.Right{{Verb: "patch", Group: "apps", Resource: "deployments"}}}
	for _, want := range []string{"patch deployments.apps", "shop", "intercept"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
	if hints := err.Hints(); len(hints) == 0 || !strings.Contains(hints[0], "`edit` in namespace shop") {
		t.Errorf("hints %q", hints)
	}
}

func TestNeeds(t *testing.T) {
	has := func(f access.Feature, right string) bool {
		return slices.ContainsFunc(access.Needs(f), func(r access.Right) bool { return r.String() == right })
	}
	for _, tc := range []struct {
		feature access.Feature
		right   string
		want    bool
	}{
		{access.Connect, "create pods/portforward", true},
		{access.Connect, "create jobs.batch", true},
		{access.Connect, "patch deployments.apps", false},
		{access.Intercept, "create pods/portforward", true},
		{access.Intercept, "patch deployments.apps", true},
		{access.Intercept, "patch services", true},
		{access.InterceptService, "patch services", true},
		{access.InterceptPortName, "patch deployments.apps", true},
		{access.InterceptPortName, "patch services", false},
		{access.InterceptPortName, "create jobs.batch", false},
	} {
		if has(tc.feature, tc.right) != tc.want {
			t.Errorf("%s needs %s: %v", tc.feature, tc.right, !tc.want)
		}
	}
	for _, f := range []access.Feature{access.Connect, access.Intercept, access.InterceptPortName, access.InterceptService} {
		rights := access.Needs(f)
		for i, r := range rights {
			if slices.Contains(rights[:i], r) {
				t.Errorf("%s names %s twice", f, r)
			}
		}
	}
	if access.Needs("juggling") != nil {
		t.Error("rights for an unknown feature")
	}
}
