package agent

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

func prefixes(s ...string) (p []netip.Prefix) {
	for _, s := range s {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func TestParseResolvConf(t *testing.T) {
	servers, search := parseResolvConf(strings.NewReader(`# made by kubelet
search old.example
search shop.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
nameserver fd00::a
nameserver nonsense
nameserver
options ndots:5
`))
	if want := []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00::a")}; !slices.Equal(servers, want) {
		t.Errorf("servers %v", servers)
	}
	if want := []string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local"}; !slices.Equal(search, want) {
		t.Errorf("search %v", search)
	}
}

func TestParseRoutes(t *testing.T) {
	for _, test := range []struct {
		name, v4, v6 string
		want         []netip.Prefix
	}{
		{"flannel", `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0101F40A	0003	0	0	0	00000000	0	0	0
eth0	0000F40A	0101F40A	0003	0	0	0	0000FFFF	0	0	0
eth0	0001F40A	00000000	0001	0	0	0	00FFFFFF	0	0	0
eth0	0001F40A	00000000	0001	0	0	9	00FFFFFF	0	0	0
`, ``, prefixes("10.244.0.0/16", "10.244.1.0/24")},
		{"calico", `Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0101FEA9	0003	0	0	0	00000000	0	0	0
eth0	0101FEA9	00000000	0001	0	0	0	FFFFFFFF	0	0	0
`, ``, nil},
		{"dual stack", ``, `fd000001000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000001000000000000000000000001 00000400 00000001 00000000 00000003     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo
ff000000000000000000000000000000 08 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000003 00000000 00000001     eth0
`, prefixes("fd00:1::/64")},
		{"nonsense", "a b c d e f g h\neth0 0001F40A 0 zz 0 0 0 00FFFFFF\neth0 01F40A 0 0001 0 0 0 00FFFFFF\n\n", "x\n00 00 00 00 00 00 00 00 00 eth0\n", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := append(parseRoutes(strings.NewReader(test.v4)), parseIPv6Routes(strings.NewReader(test.v6))...)
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, not %v", got, test.want)
			}
		})
	}
}

func FuzzFacts(f *testing.F) {
	f.Add("search a b\nnameserver 10.0.0.1\n")
	f.Add("eth0	0000F40A	0101F40A	0003	0	0	0	0000FFFF	0	0	0\n")
	f.Add("fd000001000000000000000000000000 40 0 00 0 00000100 00000001 00000000 00000001     eth0\n")
	f.Fuzz(func(t *testing.T, s string) {
		parseResolvConf(strings.NewReader(s))
		for _, p := range append(parseRoutes(strings.NewReader(s)), parseIPv6Routes(strings.NewReader(s))...) {
			if !p.IsValid() || p.Bits() == 0 {
				t.Fatalf("route %v", p)
			}
		}
	})
}

func TestInfo(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 10.96.0.10\nsearch cluster.local\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, Config{Version: "v1", Pod: "front-1", Files: Files{ResolvConf: conf, Route: "/nonexistent", IPv6Route: "/nonexistent"}})
	got := mustInfo(t, a.connect(t, "alice-1"))
	if got.UpSeconds <= 0 || got.UpSeconds > 60 {
		t.Errorf("up for %v s", got.UpSeconds)
	}
	got.UpSeconds = 0
	if !got.Has(api.FeatureRules) {
		t.Errorf("features %v", got.Features)
	}
	got.Features = nil
	want := api.Info{
		Version: "v1", Pod: "front-1", PodIPs: []netip.Addr{podIP},
		Nameservers: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		Search:      []string{"cluster.local"}, Captures: []api.CaptureInfo{}, Sessions: []string{"alice-1"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, not %+v", got, want)
	}
}
