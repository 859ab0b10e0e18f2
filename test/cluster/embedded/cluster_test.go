package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

// bootTarget is what a boot with built components may take; tests allow three times that.
const bootTarget = 30 * time.Second

// TestCluster boots a cluster of its own beside the shared one. The parts
// build on each other.
func TestCluster(t *testing.T) {
	if err := thisMachine().allowed(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the embedded cluster cannot be tested: %v", err)
		}
		t.Skipf("NOT TESTED, the embedded cluster: %v", err)
	}
	opt, err := Options{Name: "selftest", Dir: filepath.Join(t.TempDir(), "c"), Log: func(line string) { t.Log(line) }}.complete()
	if err != nil {
		t.Fatal(err)
	}
	resolvBefore, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	if err := Down(t.Context(), opt); err != nil {
		t.Fatalf("remove what an earlier run left: %v", err)
	}
	t.Cleanup(func() {
		if err := Down(context.Background(), opt); err != nil {
			t.Errorf("down: %v", err)
		}
	})
	if _, err := Open(t.Context(), opt); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("Open without a cluster: %v, want ErrNotRunning", err)
	}

	c := up(t, opt)
	var boot time.Duration
	c.view(func(s *state) { boot = s.Boot })
	t.Logf("warm boot took %.1f s (target %s)", boot.Seconds(), bootTarget)
	if boot > 3*bootTarget {
		t.Errorf("the boot took %s, more than three times %s", boot, bootTarget)
	}
	c.applyHello(t)
	t.Run("up twice", func(t *testing.T) {
		if again := up(t, opt); again.state.Init != c.state.Init {
			t.Error("a healthy cluster was booted anew")
		}
	})
	t.Run("status", func(t *testing.T) { testStatus(t, c) })
	t.Run("rights", func(t *testing.T) { testRights(t, c) })
	t.Run("pods", func(t *testing.T) { testPods(t, c) })
	t.Run("laptop", func(t *testing.T) { testLaptop(t, c) })
	t.Run("many laptops", func(t *testing.T) { testLaptops(t, c) })
	t.Run("components", func(t *testing.T) { testComponents(t, c) })
	t.Run("node without power", func(t *testing.T) { testNode(t, c) })
	t.Run("crash", func(t *testing.T) { testCrash(t, opt) })
	t.Run("down", func(t *testing.T) { testDown(t, opt) })

	resolvAfter, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(resolvBefore, resolvAfter) {
		t.Errorf("the machine's /etc/resolv.conf changed:\n%s\nwas:\n%s", resolvAfter, resolvBefore)
	}
}

func up(t *testing.T, opt Options) *Cluster {
	t.Helper()
	c, err := Up(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testStatus(t *testing.T, c *Cluster) {
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !s.Healthy || len(s.Nodes) != 2 || !s.Nodes[0].Ready || !s.Nodes[1].Ready {
		t.Errorf("status %+v, want a healthy cluster of two nodes", s)
	}
}

func testRights(t *testing.T, c *Cluster) {
	for _, tt := range []struct {
		user, namespace, verb, resource string
		want                            bool
	}{
		{"alice", "shop", "create", "pods/portforward", true},
		{"alice", "shop", "create", "pods/exec", true},
		{"alice", "shop", "patch", "deployments.apps", true},
		{"alice", "shop", "patch", "services", true},
		{"alice", "shop", "patch", "pods/ephemeralcontainers", false},
		{"alice", "shop", "create", "rolebindings.rbac.authorization.k8s.io", false},
		{"alice", "", "list", "nodes", false},
		{"alice", "", "list", "namespaces", false},
		{"alice", "open", "patch", "pods/ephemeralcontainers", true},
		{"alice", "open", "create", "pods", true},
		{"alice", "other", "get", "pods", false},
		{"bob", "shop", "patch", "deployments.apps", true},
		{"bob", "open", "get", "pods", false},
		{"bob", "other", "get", "pods", false},
		{"admin", "", "delete", "nodes", true},
	} {
		t.Run(strings.Join([]string{tt.user, tt.verb, tt.resource, tt.namespace}, " "), func(t *testing.T) {
			client, err := c.client(tt.user)
			if err != nil {
				t.Fatal(err)
			}
			resource, sub, _ := strings.Cut(tt.resource, "/")
			resource, group, _ := strings.Cut(resource, ".")
			review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: tt.namespace, Verb: tt.verb, Group: group, Resource: resource, Subresource: sub},
			}}
			answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if answer.Status.Allowed != tt.want {
				t.Errorf("allowed: %v, want %v (%s)", answer.Status.Allowed, tt.want, answer.Status.Reason)
			}
		})
	}
	t.Run("pod security in shop", func(t *testing.T) {
		out, err := c.KubectlCommand(t.Context(), "alice", "run", "loose", "--image=x:1", "--dry-run=server").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "violates PodSecurity") {
			t.Errorf("a pod that is not restricted: %v: %s", err, out)
		}
	})
}

// applyHello makes one web server on each node and a Service for both, in
// shop, from an image loaded by Load.
func (c *Cluster) applyHello(t *testing.T) {
	t.Helper()
	binary, image := filepath.Join(t.TempDir(), "hello"), filepath.Join(t.TempDir(), "hello.tar")
	if _, err := run(t.Context(), "", "env", "CGO_ENABLED=0", "go", "build", "-o", binary, "./testdata/hello"); err != nil {
		t.Fatal(err)
	}
	if err := writeImage(image, "localhost/hello:1", binary, "/hello"); err != nil {
		t.Fatal(err)
	}
	if err := c.Load(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile("testdata/hello/hello.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config, err := c.RESTConfig("alice")
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096)
	for {
		var object unstructured.Unstructured
		if decoder.Decode(&object.Object) != nil {
			break
		}
		if err := applyObject(t.Context(), client, &object); err != nil {
			t.Fatal(err)
		}
	}
}

// get fetches a URL from inside a pod of shop.
func (c *Cluster) get(ctx context.Context, pod, url string) (string, error) {
	out, err := c.KubectlCommand(ctx, "alice", "exec", pod, "--", "/hello", "get", url).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("exec in %s: %w: %s", pod, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// testPods lets each pod ask the Service, by name, until both have answered.
func testPods(t *testing.T, c *Cluster) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, from := range []string{"hello-node1", "hello-node2"} {
		seen := map[string]bool{}
		err := wait(ctx, "answers of both pods to "+from, func(ctx context.Context) error {
			said, err := c.get(ctx, from, "http://hello.shop/")
			seen[said] = err == nil
			if !seen["hello-node1"] || !seen["hello-node2"] {
				return fmt.Errorf("so far %v, %w", seen, err)
			}
			return nil
		}, nil)
		if err != nil {
			t.Error(err)
		}
	}
}

func (c *Cluster) helloAddresses(t *testing.T) (service, pod string) {
	t.Helper()
	admin, err := c.client("admin")
	if err != nil {
		t.Fatal(err)
	}
	s, err := admin.CoreV1().Services("shop").Get(t.Context(), "hello", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := admin.CoreV1().Pods("shop").Get(t.Context(), "hello-node2", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(s.Spec.ClusterIP, "80"), net.JoinHostPort(p.Status.PodIP, "8080")
}

func dials(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), address string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func testLaptop(t *testing.T, c *Cluster) {
	l := c.Laptop("default")
	service, pod := c.helloAddresses(t)
	for _, address := range []string{service, pod} {
		if err := dials(t.Context(), c.Dial, address); err != nil {
			t.Errorf("%s from the cluster: %v", address, err)
		}
		if err := dials(t.Context(), l.Dial, address); err == nil {
			t.Errorf("%s is reachable from the laptop", address)
		}
	}
	if err := dials(t.Context(), l.Dial, net.JoinHostPort(apiAddress, apiPort)); err != nil {
		t.Errorf("the API server from the laptop: %v", err)
	}

	script := "cat /etc/resolv.conf; getent hosts intranet.office.example; kubectl auth whoami -o jsonpath={.status.userInfo.username}; pwd; touch /run/here /var/lib/kubectl-tele-here"
	out, err := l.Command(t.Context(), "alice", "sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("command at the laptop: %v: %s", err, out)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{l.ResolvConf(), "203.0.113.250", "alice", here} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the laptop says\n%s\nwithout %q", out, want)
		}
	}
	for _, file := range []string{"/run/here", "/var/lib/kubectl-tele-here"} {
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s of the laptop is on the machine", file)
		}
	}

	before := counts(t, l)
	if _, err := l.LookupHost(t.Context(), "Intranet"); err != nil {
		t.Errorf("look up by search domain: %v", err)
	}
	if _, err := l.LookupHost(t.Context(), "nobody.example"); err == nil {
		t.Error("the office knows a name it should not")
	}
	after := counts(t, l)
	for _, name := range []string{"intranet.office.example", "nobody.example"} {
		if after[name] != before[name]+1 {
			t.Errorf("%s was counted %d times, want once", name, after[name]-before[name])
		}
	}
}

func counts(t *testing.T, l *Laptop) map[string]int {
	t.Helper()
	counted, err := l.ResolverCounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return counted
}

func testLaptops(t *testing.T, c *Cluster) {
	l, err := c.NewLaptop(t.Context(), "second")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.NewLaptop(t.Context(), "second"); err == nil {
		t.Error("two laptops of one name")
	}
	routes, err := l.Routes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range routes {
		if !strings.HasPrefix(route, "192.0.2.1 ") && !strings.HasPrefix(route, "203.0.113.4/30 ") && !strings.HasPrefix(route, "fe80::/64 ") {
			t.Errorf("the laptop has a route %q", route)
		}
	}
	api := net.JoinHostPort(apiAddress, apiPort)
	if err := dials(t.Context(), l.Dial, api); err != nil {
		t.Errorf("the API server from the second laptop: %v", err)
	}
	if err := l.LinkDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := dials(t.Context(), l.Dial, api); err == nil {
		t.Error("the API server answers without a cable")
	}
	if err := dials(t.Context(), c.Laptop("default").Dial, api); err != nil {
		t.Errorf("the other laptop's cable was pulled too: %v", err)
	}
	if err := l.LinkUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := wait(t.Context(), "the cable", func(ctx context.Context) error { return dials(ctx, l.Dial, api) }, nil); err != nil {
		t.Error(err)
	}

	sleeper := l.Command(t.Context(), "", "sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Close(t.Context()); err != nil {
			t.Errorf("close the laptop: %v", err)
		}
	}
	if err := sleeper.Wait(); err == nil {
		t.Error("a command outlived its laptop")
	}
	if found := leftovers(c.opt, "second"); len(found) > 0 {
		t.Errorf("the closed laptop left %q", found)
	}
}

func testComponents(t *testing.T, c *Cluster) {
	before := c.state.Processes["kube-apiserver"].process
	if err := c.Restart(t.Context(), "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	if before.alive() {
		t.Error("the old API server still runs")
	}
	if err := c.Restart(t.Context(), "kubelet-node3"); err == nil {
		t.Error("restarted a component that does not exist")
	}
}

func testNode(t *testing.T, c *Cluster) {
	if err := c.StopNode(t.Context(), "node2"); err != nil {
		t.Fatal(err)
	}
	if left := cgroupProcesses(c.opt.podsCgroup(nodes()[1])); len(left) > 0 {
		t.Errorf("pods run without power: %v", left)
	}
	if _, err := c.get(t.Context(), "hello-node1", "http://localhost:8080"); err != nil {
		t.Errorf("the other node: %v", err)
	}
	if err := c.StartNode(t.Context(), "node2"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := wait(ctx, "pods of node2", func(ctx context.Context) error {
		_, err := c.get(ctx, "hello-node2", "http://localhost:8080")
		return err
	}, nil); err != nil {
		t.Error(err)
	}
}

// testCrash kills what can be killed, and expects the next Up to cope.
func testCrash(t *testing.T, opt Options) {
	c := up(t, opt)
	first := c.state.Init
	if err := c.Kill(t.Context(), "kubelet-node1"); err != nil {
		t.Fatal(err)
	}
	c = up(t, opt)
	if c.state.Init != first || !c.state.Processes["kubelet-node1"].alive() {
		t.Error("a lost kubelet was not mended in place")
	}
	if err := first.signal(os.Kill); err != nil {
		t.Fatal(err)
	}
	if !gone(t.Context(), first, 10*time.Second) {
		t.Fatal("process 1 does not end")
	}
	if _, err := Open(t.Context(), opt); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Open of a dead cluster: %v, want ErrNotRunning", err)
	}
	c = up(t, opt)
	if s, err := c.Status(t.Context()); err != nil || !s.Healthy {
		t.Errorf("after the second boot: %+v, %v", s, err)
	}
}

func testDown(t *testing.T, opt Options) {
	c, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	c.applyHello(t) // mounts and network namespaces of pods
	if len(leftovers(opt, "")) == 0 {
		t.Fatal("a running cluster is not noticed: the check is void")
	}
	// The hard way: no state to go by, its process 1 alive.
	if err := os.Remove(opt.path("state.json")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Down(t.Context(), opt); err != nil {
			t.Fatal(err)
		}
		if found := leftovers(opt, ""); len(found) > 0 {
			t.Errorf("down left %q", found)
		}
	}
}

// leftovers lists what the machine has of a cluster, or of one of its laptops.
func leftovers(opt Options, laptop string) []string {
	dir, netns := opt.Dir, opt.Name
	if laptop != "" {
		dir, netns = opt.path("l", laptop), opt.laptopPrefix()+laptop
	}
	var found []string
	names, _ := os.ReadDir(netnsDir)
	for _, e := range names {
		if strings.HasPrefix(e.Name(), netns) {
			found = append(found, "namespace "+e.Name())
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for _, m := range mountsBelow(string(mounts), dir) {
		found = append(found, "mount "+m)
	}
	pids, _ := processes()
	for _, pid := range pids {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		if pid != os.Getpid() && (bytes.Contains(cmdline, []byte(dir+"/")) || strings.HasPrefix(cwd, dir)) {
			found = append(found, fmt.Sprintf("process %d %s", pid, bytes.ReplaceAll(cmdline, []byte{0}, []byte(" "))))
		}
	}
	if _, err := os.Stat(dir); err == nil {
		found = append(found, "folder "+dir)
	}
	if laptop == "" {
		for _, h := range cgroupHierarchies(cgroupRoot) {
			if _, err := os.Stat(filepath.Join(h, opt.Name)); err == nil {
				found = append(found, "cgroup "+filepath.Join(h, opt.Name))
			}
		}
	}
	slices.Sort(found)
	return found
}
