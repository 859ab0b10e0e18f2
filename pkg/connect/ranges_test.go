package connect

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
)

func prefixes(words ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, w := range words {
		out = append(out, netip.MustParsePrefix(w))
	}
	return out
}

func TestParseServiceRanges(t *testing.T) {
	for name, tc := range map[string]struct {
		message string
		want    []netip.Prefix
	}{
		"one range": {
			`Service "x" is invalid: spec.clusterIPs: Invalid value: []string{"1.1.1.1"}: failed to allocate IP 1.1.1.1: the provided IP (1.1.1.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16`,
			prefixes("10.96.0.0/16"),
		},
		"not masked": {"The range of valid IPs is 10.96.0.1/16", prefixes("10.96.0.0/16")},
		"IPv6":       {"The range of valid IPs is fd00:10:96::/112", prefixes("fd00:10:96::/112")},
		"two":        {"The range of valid IPs is 10.96.0.0/16, fd00::/108", prefixes("10.96.0.0/16", "fd00::/108")},
		"nonsense":   {"The range of valid IPs is none of your business", nil},
		"forbidden":  {`services is forbidden: User "alice" cannot create resource`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := parseServiceRanges(errors.New(tc.message)); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
	if got := parseServiceRanges(nil); got != nil {
		t.Errorf("no error gave ranges %v", got)
	}
}

func TestWiden(t *testing.T) {
	addr := netip.MustParseAddr
	for name, tc := range map[string]struct {
		addrs  []netip.Addr
		routes []netip.Prefix
		want   []netip.Prefix
	}{
		"size of the agent's own network": {
			[]netip.Addr{addr("10.244.1.7"), addr("10.244.3.9")},
			prefixes("0.0.0.0/0", "10.244.1.0/25"),
			prefixes("10.244.1.0/25", "10.244.3.0/25"),
		},
		"host routes tell nothing": {
			[]netip.Addr{addr("192.0.2.5")},
			prefixes("169.254.1.1/32", "169.254.0.0/16"),
			prefixes("192.0.2.0/24"),
		},
		"a larger network than one node has": {
			[]netip.Addr{addr("10.1.2.3")},
			prefixes("10.0.0.0/8"),
			prefixes("10.0.0.0/8"),
		},
		"both families": {
			[]netip.Addr{addr("10.1.2.3"), addr("fd00::1:2")},
			nil,
			prefixes("10.1.2.0/24", "fd00::/64"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := widen(tc.addrs, tc.routes)
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestWithout(t *testing.T) {
	cut := netip.MustParseAddr("10.0.0.6")
	got := without(prefixes("10.0.0.0/29", "10.1.0.0/16", "10.0.0.6/32"), cut)
	want := prefixes("10.0.0.0/30", "10.0.0.4/31", "10.0.0.7/32", "10.1.0.0/16")
	slices.SortFunc(got, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDropOverlapping(t *testing.T) {
	free, taken := dropOverlapping(prefixes("10.96.0.0/16", "10.244.0.0/24"), prefixes("0.0.0.0/0", "10.244.0.128/25"))
	if !slices.Equal(free, prefixes("10.96.0.0/16")) || !slices.Equal(taken, prefixes("10.244.0.0/24")) {
		t.Errorf("free %v, taken %v", free, taken)
	}
}

func TestClusterDomain(t *testing.T) {
	for name, tc := range map[string]struct {
		search []string
		want   string
	}{
		"usual":         {[]string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local"}, "cluster.local"},
		"another":       {[]string{"shop.svc.k8s.example.", "svc.k8s.example"}, "k8s.example"},
		"not a pod's":   {[]string{"corp.example"}, "cluster.local"},
		"other's name":  {[]string{"other.svc.cluster.test"}, "cluster.local"},
		"nothing known": {nil, "cluster.local"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := clusterDomain(tc.search, "shop"); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
