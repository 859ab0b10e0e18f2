package tun

import (
	"net/netip"
	"slices"
)

// Route is a range that the host leads somewhere.
type Route struct {
	Prefix netip.Prefix
	Dev    string // empty for routes that belong to no single interface
}

// ExistingRoutes lists the ranges that the host routes or holds itself, of
// all its routing tables, sorted and each once. Left out are default routes
// (see IsDefault), loopback, multicast and link-local ranges.
func ExistingRoutes() ([]netip.Prefix, error) {
	routes, err := Routes()
	if err != nil {
		return nil, err
	}
	prefixes := make([]netip.Prefix, 0, len(routes))
	for _, r := range routes {
		prefixes = append(prefixes, r.Prefix)
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return slices.Compact(prefixes), nil
}

// matters reports whether a route to p can matter to the choice of ranges.
func matters(p netip.Prefix) bool {
	a := p.Addr()
	return p.IsValid() && !IsDefault(p) && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
}
