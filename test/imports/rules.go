package imports

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Rule forbids some packages of this module to import others.
type Rule struct {
	Packages []string // who is bound; all of this module when empty
	Except   []string // who is not
	Never    []string // what they must not import
	Direct   bool     // they may get it through others
	Why      string
}

var (
	kubernetes = []string{"k8s.io/...", "sigs.k8s.io/..."}
	clientGo   = []string{"k8s.io/client-go/..."}
	cobra      = []string{"github.com/spf13/cobra/..."}
	gVisor     = []string{"gvisor.dev/gvisor/..."}
)

// layers is the order of the packages that know the product as a whole. Each may
// import those to its right.
const layers = "cli -> session -> connect, intercept -> cluster -> the rest"

// Rules returns the rules of this module.
func Rules() []Rule {
	return []Rule{
		{
			Packages: []string{"./cmd/tele-agent", "./pkg/agent/..."},
			Never:    slices.Concat(kubernetes, cobra, gVisor),
			Why:      "the agent is small, and has no Kubernetes client",
		},
		{
			Packages: []string{"./pkg/agent/api/..."},
			Never:    slices.Concat([]string{"./..."}, kubernetes, cobra, gVisor),
			Why:      "words that session and agent share are data alone",
		},
		{
			Packages: []string{"./pkg/tunnel/..."},
			Never:    slices.Concat(kubernetes, gVisor),
			Why:      "the tunnel is the same at both ends, and knows only connections",
		},
		{
			Packages: []string{"./pkg/handler/..."},
			Never:    kubernetes,
			Why:      "a handler serves plain connections",
		},
		{
			Packages: []string{"./pkg/tun/...", "./pkg/dns/..."},
			Never:    clientGo,
			Why:      "the host's network and names know no API server; the helper runs as root",
		},
		{
			Packages: []string{"./pkg/inject/...", "./pkg/workload/...", "./pkg/access/..."},
			Never:    gVisor,
			Why:      "work on objects needs no network stack",
		},
		{
			Except: []string{"./pkg/tun/netstack/..."},
			Never:  gVisor, Direct: true,
			Why: "the network stack stays behind pkg/tun/netstack",
		},
		{
			Packages: []string{"./pkg/portforward/..."},
			Never:    []string{"./pkg/tunnel/..."},
			Why:      "a lane does not know what is sent over it",
		},
		{
			Packages: []string{"./pkg/control/api/..."},
			Never:    []string{"./..."},
			Why:      "what commands and sessions say to each other is data alone",
		},
		{
			Packages: []string{"./pkg/control/..."},
			Never:    slices.Concat(kubernetes, cobra, gVisor, []string{"./pkg/session/..."}),
			Why:      "the control socket carries words, and asks an interface",
		},
		{
			Packages: []string{"./pkg/cluster/..."},
			Never: slices.Concat(cobra, gVisor,
				[]string{"./pkg/control", "./pkg/connect/...", "./pkg/intercept/...", "./pkg/session/..."}),
			Why: "a cluster knows neither what is made of it nor who asks",
		},
		{
			Packages: []string{"./pkg/connect/..."},
			Never:    slices.Concat(cobra, []string{"./pkg/control", "./pkg/intercept/...", "./pkg/session/..."}),
			Why:      "a network is made from a cluster, and knows no session",
		},
		{
			Packages: []string{"./pkg/intercept/..."},
			Never:    slices.Concat(cobra, gVisor, []string{"./pkg/control", "./pkg/connect/...", "./pkg/session/..."}),
			Why:      "intercepts are made from a cluster, and know no session",
		},
		{
			Packages: []string{"./pkg/session/..."},
			Never:    cobra,
			Why:      "the session is a library; commands are pkg/cli's",
		},
		{
			Except: []string{"./pkg/cluster/...", "./pkg/connect/...", "./pkg/intercept/...", "./pkg/session/...", "./pkg/cli/...", "./cmd/...", "./test/..."},
			Never:  []string{"./pkg/cluster/..."}, Direct: true,
			Why: layers,
		},
		{
			Except: []string{"./pkg/connect/...", "./pkg/intercept/...", "./pkg/session/...", "./pkg/cli/...", "./cmd/...", "./test/..."},
			Never:  []string{"./pkg/connect/...", "./pkg/intercept/..."}, Direct: true,
			Why: layers,
		},
		{
			Except: []string{"./pkg/session/...", "./pkg/cli/...", "./cmd/...", "./test/..."},
			Never:  []string{"./pkg/session/...", "./pkg/control"}, Direct: true,
			Why: layers,
		},
		{
			Except: []string{"./pkg/cli/...", "./cmd/...", "./test/..."},
			Never:  []string{"./pkg/cli/..."}, Direct: true,
			Why: layers,
		},
		{
			Except: []string{"./test/..."},
			Never:  []string{"./test/..."},
			Why:    "tests are not part of the product",
		},
		{
			Packages: []string{"./cmd/..."},
			Never:    []string{"testing", "go.uber.org/goleak"},
			Why:      "helpers of tests, as in pkg/tun/tuntest, are not part of the product",
		},
		{
			Packages: []string{"./pkg/...", "./cmd/..."},
			Never:    []string{"./internal/...", "github.com/google/go-containerregistry/..."},
			Why:      "packing a release is not part of the product",
		},
	}
}

// Check returns what breaks the rules: a line for each package, with the
// shortest way to what it must not import.
func Check(g Graph, rules []Rule) []string {
	var broken []string
	for _, pkg := range slices.Sorted(maps.Keys(g)) {
		if !match(pkg, []string{"./..."}) && pkg != Module {
			continue
		}
		for _, r := range rules {
			if len(r.Packages) > 0 && !match(pkg, r.Packages) || match(pkg, r.Except) {
				continue
			}
			way := r.breach(g, pkg)
			if way != nil {
				short := strings.ReplaceAll(strings.Join(way, " -> "), Module+"/", "")
				broken = append(broken, fmt.Sprintf("%s (%s)", short, r.Why))
			}
		}
	}
	return broken
}

func (r Rule) breach(g Graph, pkg string) []string {
	forbidden := func(p string) bool { return match(p, r.Never) }
	if !r.Direct {
		return g.path(pkg, forbidden)
	}
	if i := slices.IndexFunc(g[pkg], forbidden); i >= 0 {
		return []string{pkg, g[pkg][i]}
	}
	return nil
}
