package tun

import (
	"net"
	"net/netip"
)

// kernelRoute is what a BSD kernel tells of one of its routes.
type kernelRoute struct {
	dst    netip.Addr // invalid in routes that are not of IP
	mask   net.IPMask // nil in a route to a single host
	dev    string     // empty if it belongs to no single interface
	cloned bool       // made by the kernel from a wider route when that was used
}

// fromKernel returns the routes that matter, in the order given. A cloned
// route is left out: the route that it was made from covers it, unless that is
// a default route, and then it does not matter either. A range that leads to
// several interfaces (a scoped route for each) is listed once for each.
func fromKernel(table []kernelRoute) []Route {
	var routes []Route
	for _, k := range table {
		if k.cloned || !k.dst.IsValid() {
			continue
		}
		bits := k.dst.BitLen()
		if k.mask != nil {
			ones, size := k.mask.Size()
			if size != bits {
				continue // has holes
			}
			bits = ones
		}
		if p, err := k.dst.Prefix(bits); err == nil && matters(p) {
			routes = append(routes, Route{Prefix: p, Dev: k.dev})
		}
	}
	return routes
}
