package imports

import (
	"slices"
	"strings"
	"testing"
)

func TestThisModule(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		t.Run(goos, func(t *testing.T) {
			t.Parallel()
			g, err := Load(t.Context(), "../..", goos)
			if err != nil {
				t.Fatal(err)
			}
			for _, pkg := range []string{"cmd/kubectl-tele", "cmd/tele-agent", "pkg/agent/api", "pkg/control/api", "pkg/tunnel", "pkg/tun/netstack"} {
				if _, ok := g[Module+"/"+pkg]; !ok {
					t.Errorf("%s is not among the %d packages: is the list whole?", pkg, len(g))
				}
			}
			for _, line := range Check(g, Rules()) {
				t.Error(line)
			}
		})
	}
}

// Each rule finds what breaks it, and nothing else does.
func TestRules(t *testing.T) {
	tests := []struct {
		name string
		add  string   // PACKAGE IMPORTED..., added to a good graph
		want []string // the ways that are found
	}{
		{"good", "pkg/cli pkg/workload", nil},
		{"agent with Kubernetes", "pkg/agent k8s.io/api/core/v1", []string{
			"cmd/tele-agent -> pkg/agent -> k8s.io/api/core/v1", "pkg/agent -> k8s.io/api/core/v1",
		}},
		{"agent with cobra", "cmd/tele-agent github.com/spf13/cobra", []string{"cmd/tele-agent -> github.com/spf13/cobra"}},
		{"agent with gVisor by a sibling", "pkg/agent pkg/tun/netstack", []string{
			"cmd/tele-agent -> pkg/agent -> pkg/tun/netstack -> gvisor.dev/gvisor/pkg/tcpip",
			"pkg/agent -> pkg/tun/netstack -> gvisor.dev/gvisor/pkg/tcpip",
		}},
		{"agent's words with a sibling", "pkg/agent/api pkg/version", []string{"pkg/agent/api -> pkg/version"}},
		{"agent's words with Kubernetes", "pkg/agent/api k8s.io/api/core/v1", []string{"pkg/agent/api -> k8s.io/api/core/v1"}},
		{"session with the agent's words", "pkg/session pkg/agent/api", nil},
		{"tunnel with Kubernetes", "pkg/tunnel sigs.k8s.io/yaml", []string{
			"cmd/tele-agent -> pkg/agent -> pkg/tunnel -> sigs.k8s.io/yaml",
			"pkg/agent -> pkg/tunnel -> sigs.k8s.io/yaml", "pkg/tunnel -> sigs.k8s.io/yaml",
		}},
		{"handler with Kubernetes", "pkg/handler k8s.io/apimachinery/pkg/labels", []string{"pkg/handler -> k8s.io/apimachinery/pkg/labels"}},
		{"helper with client-go", "pkg/tun/helper k8s.io/client-go/rest", []string{"pkg/tun/helper -> k8s.io/client-go/rest"}},
		{"dns with client-go", "pkg/dns/osdns pkg/workload", []string{"pkg/dns/osdns -> pkg/workload -> k8s.io/client-go/kubernetes"}},
		{"dns with other Kubernetes", "pkg/dns k8s.io/apimachinery/pkg/util/wait", nil},
		{"objects with gVisor", "pkg/inject pkg/tun/netstack", []string{"pkg/inject -> pkg/tun/netstack -> gvisor.dev/gvisor/pkg/tcpip"}},
		{"gVisor elsewhere", "pkg/tun gvisor.dev/gvisor/pkg/buffer", []string{"pkg/tun -> gvisor.dev/gvisor/pkg/buffer"}},
		{"gVisor in tests", "test/bench gvisor.dev/gvisor/pkg/buffer", []string{"test/bench -> gvisor.dev/gvisor/pkg/buffer"}},
		{"portforward with tunnel", "pkg/portforward pkg/tunnel", []string{"pkg/portforward -> pkg/tunnel"}},
		{"intercept with cobra", "pkg/intercept github.com/spf13/cobra", []string{
			"pkg/intercept -> github.com/spf13/cobra", "pkg/session -> pkg/intercept -> github.com/spf13/cobra",
		}},
		{"session with cobra", "pkg/session github.com/spf13/cobra/doc", []string{"pkg/session -> github.com/spf13/cobra/doc"}},
		{"session with cobra from afar", "pkg/workload github.com/spf13/cobra", []string{"pkg/session -> pkg/workload -> github.com/spf13/cobra"}},
		{"sibling with session", "pkg/portforward pkg/session", []string{
			"pkg/portforward -> pkg/session", "pkg/portforward -> pkg/session -> pkg/tunnel",
		}},
		{"control with Kubernetes", "pkg/control k8s.io/client-go/rest", []string{"pkg/control -> k8s.io/client-go/rest"}},
		{"control with session", "pkg/control pkg/session", []string{"pkg/control -> pkg/session"}},
		{"words with behaviour", "pkg/control/api pkg/hint", []string{"pkg/control/api -> pkg/hint"}},
		{"cluster with cobra", "pkg/cluster github.com/spf13/cobra", []string{
			"pkg/cluster -> github.com/spf13/cobra", "pkg/connect -> pkg/cluster -> github.com/spf13/cobra",
			"pkg/intercept -> pkg/cluster -> github.com/spf13/cobra", "pkg/session -> pkg/connect -> pkg/cluster -> github.com/spf13/cobra",
		}},
		{"cluster with gVisor", "pkg/cluster pkg/tun/netstack", []string{
			"pkg/cluster -> pkg/tun/netstack -> gvisor.dev/gvisor/pkg/tcpip",
			"pkg/intercept -> pkg/cluster -> pkg/tun/netstack -> gvisor.dev/gvisor/pkg/tcpip",
		}},
		{"cluster with control", "pkg/cluster pkg/control", []string{
			"pkg/cluster -> pkg/control", "pkg/connect -> pkg/cluster -> pkg/control", "pkg/intercept -> pkg/cluster -> pkg/control",
		}},
		{"connect with cobra", "pkg/connect github.com/spf13/cobra", []string{
			"pkg/connect -> github.com/spf13/cobra", "pkg/session -> pkg/connect -> github.com/spf13/cobra",
		}},
		{"connect with intercept", "pkg/connect pkg/intercept", []string{"pkg/connect -> pkg/intercept"}},
		{"intercept with connect", "pkg/intercept pkg/connect", []string{"pkg/intercept -> pkg/connect"}},
		{"intercept with gVisor", "pkg/handler pkg/tun/netstack", []string{
			"pkg/intercept -> pkg/handler -> pkg/tun/netstack -> gvisor.dev/gvisor/pkg/tcpip",
		}},
		{"connect with control", "pkg/connect pkg/control", []string{"pkg/connect -> pkg/control"}},
		{"the rest with cluster", "pkg/portforward pkg/cluster", []string{"pkg/portforward -> pkg/cluster"}},
		{"the rest with intercept", "pkg/inject pkg/intercept", []string{"pkg/inject -> pkg/intercept"}},
		{"tests with session", "test/bench pkg/session", nil},
		{"session with cli", "pkg/session pkg/cli", []string{"pkg/session -> pkg/cli", "pkg/session -> pkg/cli -> github.com/spf13/cobra"}},
		{"product with tests", "pkg/workload test/rig", []string{
			"cmd/kubectl-tele -> pkg/cli -> pkg/session -> pkg/workload -> test/rig",
			"pkg/cli -> pkg/session -> pkg/workload -> test/rig",
			"pkg/session -> pkg/workload -> test/rig", "pkg/workload -> test/rig",
		}},
		{"product with package testing", "cmd/kubectl-tele testing", []string{"cmd/kubectl-tele -> testing"}},
		{"product with release", "pkg/inject internal/image", []string{"pkg/inject -> internal/image"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := Graph{}
			for _, line := range []string{
				"cmd/kubectl-tele pkg/cli",
				"cmd/tele-agent pkg/agent",
				"pkg/cli pkg/session github.com/spf13/cobra",
				"pkg/session pkg/portforward pkg/tunnel pkg/workload pkg/control pkg/connect pkg/intercept",
				"pkg/control pkg/control/api",
				"pkg/connect pkg/cluster pkg/tun/netstack",
				"pkg/intercept pkg/cluster pkg/handler",
				"pkg/cluster pkg/control/api k8s.io/client-go/kubernetes",
				"pkg/agent pkg/tunnel",
				"pkg/tun/netstack gvisor.dev/gvisor/pkg/tcpip",
				"pkg/workload k8s.io/client-go/kubernetes",
				"test/rig",
				"test/bench test/rig",
				"internal/image github.com/google/go-containerregistry/pkg/v1",
				tt.add,
			} {
				add(g, line)
			}
			var got []string
			for _, line := range Check(g, Rules()) {
				way, _, _ := strings.Cut(line, " (")
				got = append(got, way)
			}
			slices.Sort(got)
			if !slices.Equal(slices.Compact(got), tt.want) {
				t.Errorf("found\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(tt.want, "\n  "))
			}
		})
	}
}

// add adds a line PACKAGE IMPORTED... to g; paths without a dot in their
// first element are of this module, but for testing.
func add(g Graph, line string) {
	names := strings.Fields(line)
	for i, n := range names {
		if first, _, _ := strings.Cut(n, "/"); !strings.Contains(first, ".") && n != "testing" {
			names[i] = Module + "/" + n
		}
	}
	g[names[0]] = append(g[names[0]], names[1:]...)
}

func TestParse(t *testing.T) {
	g, err := parse(strings.NewReader(`{"ImportPath": "a", "Imports": ["b", "fmt"]}
{"ImportPath": "fmt", "Standard": true}
{"ImportPath": "b"}`))
	if err != nil || len(g) != 2 || !slices.Equal(g["a"], []string{"b", "fmt"}) {
		t.Errorf("graph = %v, %v", g, err)
	}
	if _, err := parse(strings.NewReader(`{"ImportPath": "a"`)); err == nil {
		t.Error("half a list was accepted")
	}
}

func TestLoadTellsWhatTheGoCommandSays(t *testing.T) {
	if _, err := Load(t.Context(), t.TempDir(), "linux"); err == nil || !strings.Contains(err.Error(), "linux") {
		t.Errorf("error = %v", err)
	}
}
