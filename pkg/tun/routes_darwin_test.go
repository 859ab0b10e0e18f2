package tun

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

// What the kernel tells is understood: the range of every IPv4 address on a
// link that is up is among the routes.
func TestRoutes(t *testing.T) {
	routes, err := Routes()
	if err != nil {
		t.Fatal(err)
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Flags&net.FlagBroadcast == 0 || l.Flags&net.FlagRunning == 0 {
			continue
		}
		addrs, err := l.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil || !matters(p) || p.Addr().Is6() || p.IsSingleIP() {
				continue
			}
			if !slices.Contains(routes, Route{Prefix: p.Masked(), Dev: l.Name}) {
				t.Errorf("%s of %s is in none of %v", p, l.Name, routes)
			}
		}
	}
}
