//go:build linux

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// TestErrorsConnect: connect says in one line what is wrong, and leaves
// nothing.
func TestErrorsConnect(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mistake
		left func(*testing.T)
	}{
		{
			mistake{name: "NoRights", args: []string{"connect", "-n", "other"}, says: []string{"namespace other", "create jobs.batch", "ClusterRole `edit`"}},
			func(t *testing.T) { noAgents(t, "other", isAgent) },
		},
		{
			mistake{name: "MissingNamespace", args: []string{"connect", "-n", "nosuch"}, says: []string{"namespace nosuch"}},
			nil,
		},
		{
			mistake{name: "MissingNamespaceAsAdmin", user: "admin", args: []string{"connect", "-n", "nosuch"}, says: []string{"nosuch"}},
			nil,
		},
		{
			mistake{name: "Image", args: []string{"connect", "--agent-image", noImage, "--timeout", "100s"}, says: []string{noImage, "--agent-image"}},
			func(t *testing.T) { noAgents(t, namespace, hasImage(noImage)) },
		},
		{
			mistake{name: "BadImageName", args: []string{"connect", "--agent-image", "Not An Image"}, says: []string{"Not An Image"}},
			nil,
		},
		{
			mistake{name: "Timeout", args: []string{"connect", "--timeout", "1ms"}, says: []string{"1ms"}},
			nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			desk := newDesk(t)
			before := machineOf(t, desk)
			test.made(t, desk)
			if test.left != nil {
				test.left(t)
			}
			quiet(t, desk, before)
		})
	}
}

// TestErrorsSecondConnect: a laptop has one network.
func TestErrorsSecondConnect(t *testing.T) {
	t.Parallel()
	c := connect(t)
	mistake{name: "Second", args: []string{"connect", "-n", "open"}, says: []string{"another session", "kubectl tele quit --context alice -n shop"}}.made(t, c.Desk)
	c.curl(t, "http://front.shop")
	tele(t, c.Desk, "quit", "--all")
	quiet(t, c.Desk, c.before)
}

// kubeconfigWith is alice's kubeconfig with something replaced.
func kubeconfigWith(t *testing.T, old, replacement string) string {
	t.Helper()
	text, err := os.ReadFile(world.Cluster.Kubeconfig("alice"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("alice's kubeconfig has no %q", old)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, replacement)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// blackHole is an address at a laptop that swallows every packet.
func blackHole(t *testing.T, desk *rig.Desk) string {
	t.Helper()
	const address = "203.0.113.9"
	for _, args := range []string{
		"link add hole type veth peer name beyond",
		// Without IPv6 addresses, which would come a while later.
		"link set hole addrgenmode none", "link set beyond addrgenmode none", "link set beyond up", "link set hole up",
		"route add " + address + " dev hole",
		"neigh add " + address + " lladdr 02:00:00:00:00:09 dev hole nud permanent",
	} {
		mustRun(t, desk.Command(t.Context(), "", append([]string{"ip"}, strings.Fields(args)...)...))
	}
	return address
}

// TestErrorsClusterDown: whatever way a cluster has of not answering, each
// command that needs it says so in time.
func TestErrorsClusterDown(t *testing.T) {
	t.Parallel()
	const server = "192.0.2.1:6443"
	for name, down := range map[string]func(*testing.T, *rig.Desk) string{
		"Refused":   func(*testing.T, *rig.Desk) string { return "192.0.2.1:1" },
		"BlackHole": func(t *testing.T, desk *rig.Desk) string { return net.JoinHostPort(blackHole(t, desk), "6443") },
		// It is there and accepts, and then says nothing.
		"Silent": func(t *testing.T, desk *rig.Desk) string {
			l := listen(t, desk)
			t.Cleanup(func() { _ = l.Close() })
			return l.Addr().String()
		},
		"NoSuchName": func(*testing.T, *rig.Desk) string { return "nosuch.office.example:6443" },
	} {
		for _, args := range [][]string{{"connect"}, {"intercept", "front"}, {"list"}, {"clean"}} {
			t.Run(name+"/"+args[0], func(t *testing.T) {
				t.Parallel()
				desk := newDesk(t)
				address := down(t, desk)
				before := machineOf(t, desk)
				config := kubeconfigWith(t, server, address)
				m := mistake{name: name, args: append(args, "--kubeconfig", config), says: []string{"https://" + address}}
				m.made(t, desk)
				quiet(t, desk, before)
			})
		}
	}
}

// TestErrorsKubeconfig: what is wrong with the kubeconfig is said at once, by
// every command that needs one.
func TestErrorsKubeconfig(t *testing.T) {
	t.Parallel()
	desk := newDesk(t)
	before := machineOf(t, desk)
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("clusters: [}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	for _, command := range [][]string{{"connect"}, {"intercept", "front"}, {"list"}, {"clean"}} {
		for _, m := range []mistake{
			{name: "Missing", env: []string{"KUBECONFIG=" + missing}, says: []string{"no cluster is configured", "--kubeconfig"}},
			{name: "MissingByFlag", args: []string{"--kubeconfig", missing}, says: []string{missing}},
			{name: "None", env: []string{"KUBECONFIG=/dev/null"}, says: []string{"no cluster is configured", "--kubeconfig"}},
			{name: "Broken", env: []string{"KUBECONFIG=" + broken}, says: []string{broken}},
			{name: "UnknownContext", args: []string{"--context", "nosuch"}, says: []string{"nosuch", "kubectl config get-contexts"}},
			{name: "UnknownCluster", args: []string{"--cluster", "nosuch"}, says: []string{"nosuch"}},
			{name: "UnknownUser", args: []string{"--user", "nosuch"}, says: []string{"nosuch"}},
		} {
			t.Run(command[0]+"/"+m.name, func(t *testing.T) {
				m.args = append(command, m.args...)
				m.made(t, desk)
			})
		}
	}
	quiet(t, desk, before)
}
