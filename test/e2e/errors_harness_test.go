//go:build linux

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// errorLimit is three times what is promised.
const errorLimit = 30 * time.Second

// noImage is an image that nobody can pull: nothing listens there.
const noImage = "127.0.0.1:1/x:1"

// mistake is a command that must fail well.
type mistake struct {
	name string
	user string   // alice
	env  []string // added to the command's
	args []string
	code int      // 1
	says []string // parts of the error and its hints
}

// made makes the mistake at a desk.
func (m mistake) made(t *testing.T, desk *rig.Desk) {
	t.Helper()
	if m.user != "" {
		desk = desk.As(m.user)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := desk.Tele(ctx, m.args...)
	cmd.Env = append(cmd.Env, m.env...)
	begin := time.Now()
	result, err := rig.Run(cmd)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	t.Logf("%s: %v failed after %.1f s:\n%s%s", m.name, m.args, took.Seconds(), result.Stdout, result.Stderr)
	if want := max(m.code, 1); result.Code != want {
		t.Errorf("exit code %d, not %d", result.Code, want)
	}
	if took > errorLimit {
		t.Errorf("failed after %s, not within %s", took, errorLimit)
	}
	if result.Stdout != "" {
		t.Errorf("an error is no data, yet stdout has: %s", result.Stdout)
	}
	var facts, hints int
	for line := range strings.Lines(result.Stderr) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "error: "):
			facts++
			if len(line) > 400 {
				t.Errorf("a fact of %d characters", len(line))
			}
		case strings.HasPrefix(line, "hint: "):
			hints++
		case facts > 0:
			t.Errorf("neither fact nor hint: %q", line)
		}
	}
	if facts != 1 || hints == 0 {
		t.Errorf("%d facts and %d hints, not one fact and a hint", facts, hints)
	}
	for _, trace := range []string{"goroutine ", "panic", ".go:", "%!", "<nil>"} {
		if strings.Contains(result.Stderr, trace) {
			t.Errorf("%q is not for people", trace)
		}
	}
	for _, want := range m.says {
		if !strings.Contains(result.Stderr, want) {
			t.Errorf("does not say %q", want)
		}
	}
}

// quiet waits until the laptop is as it was: a session that has nothing to do
// ends by itself.
func quiet(t *testing.T, desk *rig.Desk, before machine) {
	t.Helper()
	c := connected{desk, before}
	c.asBefore(t, time.Now(), errorLimit)
}

// noAgents waits until there is no Job and no pod of ours in a namespace that
// satisfies a condition.
func noAgents(t *testing.T, ns string, ours func(corev1.PodSpec) bool) {
	t.Helper()
	poll(t, "no agent is left in namespace "+ns, func(ctx context.Context) error {
		jobs, err := world.Admin.BatchV1().Jobs(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, job := range jobs.Items {
			if ours(job.Spec.Template.Spec) {
				return fmt.Errorf("job/%s is there", job.Name)
			}
		}
		pods, err := world.Admin.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if ours(pod.Spec) {
				return fmt.Errorf("pod/%s is there", pod.Name)
			}
		}
		return nil
	})
}

// hasImage accepts pods with a container of that image.
func hasImage(image string) func(corev1.PodSpec) bool {
	return func(spec corev1.PodSpec) bool {
		return slices.ContainsFunc(append(spec.InitContainers, spec.Containers...), func(c corev1.Container) bool { return c.Image == image })
	}
}

// isAgent accepts all pods with an agent.
func isAgent(spec corev1.PodSpec) bool {
	_, ours := inject.AgentIn(&spec)
	return ours
}

// newNamespace is a namespace of the test's own in which alice has a role,
// which is made if it has rules, and Pod Security is not enforced.
func newNamespace(t *testing.T, name string, role rbacv1.RoleRef, rules ...rbacv1.PolicyRule) {
	t.Helper()
	core, rbac := world.Admin.CoreV1(), world.Admin.RbacV1()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	poll(t, "namespace "+name+" is there", func(ctx context.Context) error {
		_, err := core.Namespaces().Create(ctx, ns, metav1.CreateOptions{})
		return err // that of an earlier run may be on its way out
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := core.Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
	if len(rules) > 0 {
		made := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: role.Name}, Rules: rules}
		if _, err := rbac.Roles(name).Create(t.Context(), made, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "alice"},
		RoleRef:    role,
		Subjects:   []rbacv1.Subject{subject(t, "alice")},
	}
	if _, err := rbac.RoleBindings(name).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// subject is what a user is to RBAC, which differs between clusters: the one to
// whom shop's RoleBindings give their rights.
func subject(t *testing.T, user string) rbacv1.Subject {
	t.Helper()
	bindings, err := world.Admin.RbacV1().RoleBindings("shop").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	me, err := world.Cluster.RESTConfig(user)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(me)
	if err != nil {
		t.Fatal(err)
	}
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	name := review.Status.UserInfo.Username
	for _, binding := range bindings.Items {
		for _, s := range binding.Subjects {
			if s.Name == name || "system:serviceaccount:"+s.Namespace+":"+s.Name == name {
				return s
			}
		}
	}
	t.Fatalf("no RoleBinding of namespace shop is for %s", name)
	return rbacv1.Subject{}
}
