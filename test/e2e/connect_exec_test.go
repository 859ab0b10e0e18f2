//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// TestWithoutPortForward: who may exec but not port-forward can connect and
// intercept all the same.
func TestWithoutPortForward(t *testing.T) {
	t.Parallel()
	const ns = "e2e-exec"
	newNamespace(t, ns, rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "alice"},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods", "services", "events"}, Verbs: []string{"get", "list", "watch", "patch"}},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods/exec"}, Verbs: []string{"create"}},
		rbacv1.PolicyRule{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"*"}},
		rbacv1.PolicyRule{APIGroups: []string{"apps"}, Resources: []string{"deployments", "replicasets"}, Verbs: []string{"*"}},
		rbacv1.PolicyRule{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list"}},
	)
	app := manifests.HTTP("ex", manifests.Options{Namespace: ns, Replicas: 1})
	deploy(t, app)
	desk := newDesk(t)
	c := connected{desk, machineOf(t, desk)}
	tele(t, desk, "connect", "-n", ns)
	c.answers(t, time.Now())
	testBodies(t, c)

	url := fmt.Sprintf("http://ex.%s.svc.cluster.local", ns)
	by := func(what string, want func(string) bool) {
		t.Helper()
		poll(t, url+" answers by "+what, func(context.Context) error {
			if got := answeredBy(t, url); !want(got) {
				return fmt.Errorf("by %s", got)
			}
			return nil
		})
	}
	timed(t, desk, "intercept", "ex", "-n", ns, "--port", serve(t, desk, http.HandlerFunc(echo)))
	by("the laptop", isLaptop)
	timed(t, desk, "leave", "ex", "-n", ns)
	by("the app", isPodOf("ex"))
	tele(t, desk, "quit", "--all")
	c.asBefore(t, time.Now(), soon)
	jobs, err := world.Admin.BatchV1().Jobs(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(jobs.Items) != 0 {
		t.Errorf("%d Jobs are left, %v", len(jobs.Items), err)
	}
}
