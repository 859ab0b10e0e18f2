package tun

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// plan lists the BSD commands that lead from one Network of a utun to the
// next: additions first, so that nothing in both is ever without a way.
func plan(dev string, from, to Network) [][]string {
	var cmds [][]string
	for _, p := range without(to.Addrs, from.Addrs) {
		cmds = append(cmds, addAddr(dev, p))
	}
	// A utun is point-to-point: an address brings no on-link range along.
	was, is := ranges(from), ranges(to)
	for _, p := range without(is, was) {
		cmds = append(cmds, routeCmd("add", dev, p))
	}
	for _, p := range without(was, is) {
		cmds = append(cmds, routeCmd("delete", dev, p))
	}
	for _, p := range without(from.Addrs, to.Addrs) {
		cmds = append(cmds, removeAddr(dev, p))
	}
	return cmds
}

func addAddr(dev string, p netip.Prefix) []string {
	a := p.Addr().String()
	if p.Addr().Is6() {
		return []string{"ifconfig", dev, "inet6", a, "prefixlen", fmt.Sprint(p.Bits()), "up"}
	}
	mask := net.IP(net.CIDRMask(p.Bits(), 32)).String()
	return []string{"ifconfig", dev, "inet", a, a, "netmask", mask, "up"}
}

func removeAddr(dev string, p netip.Prefix) []string {
	if p.Addr().Is6() {
		return []string{"ifconfig", dev, "inet6", p.Addr().String(), "delete"}
	}
	return []string{"ifconfig", dev, "inet", p.Addr().String(), "delete"}
}

func routeCmd(verb, dev string, p netip.Prefix) []string {
	family := "-inet"
	if p.Addr().Is6() {
		family = "-inet6"
	}
	return []string{"route", "-n", verb, family, "-net", p.String(), "-interface", dev}
}

// ranges are the on-link ranges of the addresses and the routes, each once.
func ranges(n Network) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range n.Addrs {
		if p = p.Masked(); !p.IsSingleIP() && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	for _, p := range n.Routes {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

func without(list, remove []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		if !slices.Contains(remove, p) {
			out = append(out, p)
		}
	}
	return out
}
