package tun

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun/tuntest"
)

func TestMain(m *testing.M) { tuntest.Main(m) }

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestFreePrefix(t *testing.T) {
	for _, tt := range []struct {
		name     string
		existing []netip.Prefix
		avoid    []netip.Prefix
		want     string // empty: none
	}{
		{name: "nothing there", want: "198.18.0.0/30"},
		{name: "default routes", existing: prefixes("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0"), want: "198.18.0.0/30"},
		{name: "first taken", existing: prefixes("198.18.0.0/30"), want: "198.18.1.0/30"},
		{name: "first two taken", existing: prefixes("198.18.0.2/32"), avoid: prefixes("198.18.1.0/24"), want: "198.18.2.0/30"},
		{name: "benchmark range taken", existing: prefixes("198.16.0.0/12"), want: "192.0.2.0/30"},
		{name: "documentation", existing: prefixes("198.18.0.0/15", "192.0.2.0/29"), want: "192.0.2.8/30"},
		{name: "full", existing: prefixes("198.0.0.0/8", "192.0.0.0/8"), avoid: prefixes("203.0.0.0/8")},
	} {
		got, err := FreePrefix(tt.existing, tt.avoid)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%s: %s, want none", tt.name, got)
			}
			continue
		}
		if err != nil || got.String() != tt.want {
			t.Errorf("%s: %s, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}

func TestFromKernel(t *testing.T) {
	v4 := func(ones int) net.IPMask { return net.CIDRMask(ones, 32) }
	v6 := func(ones int) net.IPMask { return net.CIDRMask(ones, 128) }
	addr := netip.MustParseAddr
	var got []string
	for _, r := range fromKernel([]kernelRoute{
		{dst: addr("0.0.0.0"), mask: v4(0), dev: "en0"},
		{dst: addr("0.0.0.0"), mask: v4(0), dev: "en5"}, // scoped
		{dst: addr("0.0.0.0"), mask: v4(1), dev: "utun4"},
		{dst: addr("128.0.0.0"), mask: v4(1), dev: "utun4"},
		{dst: addr("10.96.0.0"), mask: v4(16), dev: "utun4"},
		{dst: addr("10.244.1.0"), mask: v4(24)},
		{dst: addr("127.0.0.0"), mask: v4(8), dev: "lo0"},
		{dst: addr("127.0.0.1"), dev: "lo0"},
		{dst: addr("169.254.0.0"), mask: v4(16), dev: "en0"},
		{dst: addr("172.16.5.9"), dev: "utun7"},
		{dst: addr("192.168.1.0"), mask: v4(24), dev: "en0"},
		{dst: addr("192.168.1.0"), mask: v4(24), dev: "en5"}, // scoped
		{dst: addr("192.168.1.1"), mask: v4(32), dev: "en0"},
		{dst: addr("192.168.1.7"), dev: "en0", cloned: true},  // a neighbour
		{dst: addr("198.51.100.7"), dev: "en0", cloned: true}, // a peer beyond the default route
		{dst: addr("192.0.2.9"), mask: v4(24), dev: "en0"},    // bits beyond its length
		{dst: addr("10.0.5.0"), mask: net.IPv4Mask(255, 0, 255, 0)},
		{dst: addr("10.0.6.0"), mask: v6(24)},
		{dst: addr("224.0.0.0"), mask: v4(4), dev: "en0"},
		{dst: addr("255.255.255.255"), mask: v4(32), dev: "en0"},
		{}, // of another family
		{dst: addr("::"), mask: v6(0), dev: "en0"},
		{dst: addr("::1"), dev: "lo0"},
		{dst: addr("2001:db8::"), mask: v6(64), dev: "en0"},
		{dst: addr("2001:db8::5"), dev: "en0"},
		{dst: addr("2001:db8::6"), dev: "en0", cloned: true},
		{dst: addr("::ffff:0.0.0.0"), mask: v6(96), dev: "lo0"},
		{dst: addr("fe80::"), mask: v6(64), dev: "utun0"},
		{dst: addr("fe80::1"), dev: "lo0"},
		{dst: addr("fd00:96::"), mask: v6(112), dev: "utun4"},
		{dst: addr("ff00::"), mask: v6(8), dev: "lo0"},
		{dst: addr("ff02::"), mask: v6(32), dev: "en0"},
	}) {
		got = append(got, r.Prefix.String()+" "+r.Dev)
	}
	want := []string{
		"10.96.0.0/16 utun4", "10.244.1.0/24 ", "172.16.5.9/32 utun7", "192.168.1.0/24 en0", "192.168.1.0/24 en5",
		"192.168.1.1/32 en0", "192.0.2.0/24 en0", "255.255.255.255/32 en0",
		"2001:db8::/64 en0", "2001:db8::5/128 en0", "::ffff:0.0.0.0/96 lo0", "fd00:96::/112 utun4",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPlan(t *testing.T) {
	one := Network{Addrs: prefixes("198.18.0.1/30"), Routes: prefixes("10.96.0.0/16")}
	two := Network{Addrs: prefixes("198.18.0.1/30", "fd00:7e1e::1/126"), Routes: prefixes("10.244.0.0/16", "fd00:96::/112")}
	for _, tt := range []struct {
		name     string
		from, to Network
		want     string
	}{
		{"nothing", Network{}, Network{}, ""},
		{"first", Network{}, one, `
ifconfig utun9 inet 198.18.0.1 198.18.0.1 netmask 255.255.255.252 up
route -n add -inet -net 198.18.0.0/30 -interface utun9
route -n add -inet -net 10.96.0.0/16 -interface utun9`},
		{"again", one, one, ""},
		{"change", one, two, `
ifconfig utun9 inet6 fd00:7e1e::1 prefixlen 126 up
route -n add -inet6 -net fd00:7e1e::/126 -interface utun9
route -n add -inet -net 10.244.0.0/16 -interface utun9
route -n add -inet6 -net fd00:96::/112 -interface utun9
route -n delete -inet -net 10.96.0.0/16 -interface utun9`},
		{"remove", two, Network{}, `
route -n delete -inet -net 198.18.0.0/30 -interface utun9
route -n delete -inet6 -net fd00:7e1e::/126 -interface utun9
route -n delete -inet -net 10.244.0.0/16 -interface utun9
route -n delete -inet6 -net fd00:96::/112 -interface utun9
ifconfig utun9 inet 198.18.0.1 delete
ifconfig utun9 inet6 fd00:7e1e::1 delete`},
	} {
		var got strings.Builder
		for _, c := range plan("utun9", tt.from, tt.to) {
			got.WriteString("\n" + strings.Join(c, " "))
		}
		if got.String() != tt.want {
			t.Errorf("%s: got%s\nwant%s", tt.name, got.String(), tt.want)
		}
	}
}

func TestNetworkCheck(t *testing.T) {
	for _, n := range []Network{
		{Addrs: []netip.Prefix{{}}},
		{Addrs: prefixes("0.0.0.0/8")},
		{Addrs: prefixes("::ffff:1.2.3.4/120")},
		{Routes: []netip.Prefix{{}}},
		{Routes: prefixes("10.96.0.1/16")},
	} {
		if err := NewRouter().Set("tele0", n); err == nil {
			t.Errorf("%+v: accepted", n)
		}
	}
	if !(Network{}).Empty() || (Network{Routes: prefixes("10.0.0.0/8")}).Empty() {
		t.Error("empty")
	}
}
