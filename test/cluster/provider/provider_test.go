package provider

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/test/cluster/embedded"
)

func env(pairs ...string) func(string) string {
	values := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return values[name] }
}

func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		name    string
		env     func(string) string
		foreign bool
		err     string
	}{
		{"nothing", env(), false, ""},
		{"both", env(EnvKubeconfig, "k", EnvAgentImage, "a:1"), true, ""},
		{"no image", env(EnvKubeconfig, "k"), false, EnvAgentImage + " is not"},
		{"no kubeconfig", env(EnvAgentImage, "a:1"), false, EnvKubeconfig + " is not"},
		{"laptop alone", env(EnvLaptop, "embedded"), false, "needs " + EnvKubeconfig},
		{"unknown laptop", env(EnvLaptop, "mine"), false, `"mine"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := choose(tt.env)
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if (got != nil) != tt.foreign {
				t.Errorf("chose %+v, want a foreign one: %v", got, tt.foreign)
			}
		})
	}
}

type skipper struct{ said string }

func (s *skipper) Helper()                       {}
func (s *skipper) Name() string                  { return "TestNeed" }
func (s *skipper) Skipf(format string, _ ...any) { s.said = format }

func TestNeed(t *testing.T) {
	var s skipper
	(&Cluster{}).Need(&s, Nodes, Components)
	if s.said != "" {
		t.Error("the embedded cluster lacks something")
	}
	foreign := &Cluster{lacks: foreignLacks()}
	foreign.Need(&s, Nodes)
	if s.said == "" {
		t.Error("a foreign cluster's nodes can be stopped")
	}
	if n := strings.Count(foreign.Report(), "does not apply"); n != 5 {
		t.Errorf("the report has %d lines:\n%s", n, foreign.Report())
	}
}

// TestExisting uses the embedded cluster as if it were foreign.
func TestExisting(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("the provider of existing clusters cannot be tested: not root")
		}
		t.Skip("NOT TESTED, the provider of existing clusters: needs root")
	}
	log := func(line string) { t.Log(line) }
	real, err := embedded.Up(t.Context(), embedded.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	c, err := get(t.Context(), log, env(EnvKubeconfig, real.Kubeconfig("admin"), EnvAgentImage, "a:1", EnvLaptop, "embedded"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Release(context.Background()); err != nil {
			t.Errorf("release: %v", err)
		}
		if _, err := os.Stat(c.Dir()); err == nil {
			t.Errorf("%s is left", c.Dir())
		}
	})
	for _, tt := range []struct {
		user, namespace, resource, sub, verb string
		want                                 bool
	}{
		{"alice", "shop", "pods", "portforward", "create", true},
		{"alice", "shop", "pods", "ephemeralcontainers", "patch", false},
		{"alice", "open", "pods", "ephemeralcontainers", "patch", true},
		{"alice", "other", "pods", "", "get", false},
		{"alice", "tele-test-users", "serviceaccounts", "token", "create", false},
		{"bob", "shop", "services", "", "patch", true},
		{"bob", "open", "pods", "", "get", false},
		{"admin", "", "nodes", "", "list", true},
	} {
		if got := allowed(t, c, tt.user, authorizationv1.ResourceAttributes{Namespace: tt.namespace, Resource: tt.resource, Subresource: tt.sub, Verb: tt.verb}); got != tt.want {
			t.Errorf("%s %s %s/%s in %s: %v, want %v", tt.user, tt.verb, tt.resource, tt.sub, tt.namespace, got, tt.want)
		}
	}
	if err := c.Kill(t.Context(), "kube-apiserver"); !errors.Is(err, embedded.ErrForeign) {
		t.Errorf("kill the API server: %v, want ErrForeign", err)
	}

	l, err := c.NewLaptop(t.Context(), "far")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	out, err := l.Command(t.Context(), "alice", "kubectl", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}").CombinedOutput()
	if err != nil || string(out) != "system:serviceaccount:tele-test-users:alice" {
		t.Errorf("kubectl at the laptop: %v: %s", err, out)
	}
	if err := l.LinkDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if conn, err := l.Dial(ctx, "tcp", "192.0.2.1:6443"); err == nil {
		_ = conn.Close()
		t.Error("the API server answers without a cable")
	}
}

func allowed(t *testing.T, c *Cluster, user string, what authorizationv1.ResourceAttributes) bool {
	t.Helper()
	config, err := c.RESTConfig(user)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &what}}
	answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Allowed
}
