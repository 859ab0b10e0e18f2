package tun

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// Routes lists what ExistingRoutes does, with the interface of each.
func Routes() ([]Route, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Index] = l.Name
	}
	var table []kernelRoute
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		dump, err := route.FetchRIB(family, route.RIBTypeRoute, 0)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		messages, err := route.ParseRIB(route.RIBTypeRoute, dump)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, m := range messages {
			// Its Err means nothing: in a dump, a counter stands there.
			if m, ok := m.(*route.RouteMessage); ok {
				table = append(table, kernelRoute{
					dst:    toAddr(m.Addrs[unix.RTAX_DST]),
					mask:   toAddr(m.Addrs[unix.RTAX_NETMASK]).AsSlice(),
					dev:    names[m.Index],
					cloned: m.Flags&unix.RTF_WASCLONED != 0,
				})
			}
		}
	}
	return fromKernel(table), nil
}

// toAddr returns an invalid address for what is not of IP. Zones are left out.
func toAddr(a route.Addr) netip.Addr {
	switch a := a.(type) {
	case *route.Inet4Addr:
		return netip.AddrFrom4(a.IP)
	case *route.Inet6Addr:
		return netip.AddrFrom16(a.IP)
	}
	return netip.Addr{}
}
