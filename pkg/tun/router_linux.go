package tun

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// localLimit bounds the kernel's background work on a new address, which
// takes a few milliseconds.
const localLimit = 5 * time.Second

// Router gives devices their addresses and routes. What a device has is read
// back from the kernel each time; remembered is only which device a name stood
// for, so that a later one of the same name is left alone.
type Router struct {
	mu      sync.Mutex // guards indices and is held over a change
	indices map[string]int
}

// NewRouter returns a Router for the network namespace of its callers.
func NewRouter() *Router { return &Router{indices: map[string]int{}} }

// Set makes n everything that dev has: what is missing is added, what is too
// much is removed, a route that is there already is never replaced. An empty
// n takes the device down; there, a device that is gone is not an error.
// After an error some of n may be in place; Set may be repeated.
func (r *Router) Set(dev string, n Network) error {
	if err := n.check(); err != nil {
		return fmt.Errorf("device %s: %w", dev, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	link, err := netlink.LinkByName(dev)
	if err != nil {
		if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone && n.Empty() {
			return nil
		}
		return fmt.Errorf("device %s: %w", dev, err)
	}
	index, known := r.indices[dev]
	switch replaced := known && index != link.Attrs().Index; {
	case replaced && n.Empty():
		return nil
	case replaced:
		return fmt.Errorf("device %s: is not the one it was", dev)
	}
	r.indices[dev] = link.Attrs().Index
	if n.Empty() {
		return takeDown(link)
	}
	if err := addAddrs(link, n.Addrs); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("device %s: bring up: %w", dev, err)
	}
	if err := waitLocal(link, n.Addrs); err != nil {
		return err
	}
	if err := addRoutes(link, n); err != nil {
		return err
	}
	return removeExtra(link, n)
}

// CleanUp undoes what a crashed predecessor had set. The kernel has done it
// already: the device went with the last descriptor of it, and the routes
// went with the device. If it is still there, a session holds it and lives.
func (*Router) CleanUp(string, Network) error { return nil }

func addAddrs(link netlink.Link, want []netip.Prefix) error {
	have, err := addrsOf(link)
	if err != nil {
		return err
	}
	for _, p := range want {
		if slices.Contains(have, p) {
			continue
		}
		addr := &netlink.Addr{IPNet: toIPNet(p)}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD // nobody else is on this link
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("device %s: add address %s: %w", link.Attrs().Name, p, err)
		}
	}
	return nil
}

// waitLocal waits until the kernel takes packets for the IPv6 addresses of a
// device: it does the last step of adding one in the background, and drops
// what comes before.
func waitLocal(link netlink.Link, addrs []netip.Prefix) error {
	deadline := time.Now().Add(localLimit)
	for _, p := range addrs {
		if p.Addr().Is4() {
			continue
		}
		local := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: toIPNet(netip.PrefixFrom(p.Addr(), 128))}
		for {
			list, err := netlink.RouteListFiltered(netlink.FAMILY_V6, local, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
			if err != nil {
				return fmt.Errorf("device %s: list routes: %w", link.Attrs().Name, err)
			}
			if len(list) > 0 {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("device %s: address %s is not in use after %v", link.Attrs().Name, p, localLimit)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	return nil
}

func addRoutes(link netlink.Link, n Network) error {
	have, err := routesOf(link)
	if err != nil {
		return err
	}
	for _, p := range n.Routes {
		if slices.Contains(have, p) || slices.ContainsFunc(n.Addrs, func(a netip.Prefix) bool { return a.Masked() == p }) {
			continue // the second kind is made by the kernel with the address
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: toIPNet(p), Protocol: unix.RTPROT_STATIC}
		if p.Addr().Is4() {
			route.Scope = netlink.SCOPE_LINK
		}
		// The source is left to the kernel, which takes an address of the
		// device: a route that names one would go with it.
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("device %s: add route %s: %w", link.Attrs().Name, p, err)
		}
	}
	return nil
}

// takeDown removes all of ours from a device. One that has gone meanwhile, with the
// last descriptor of it, has taken everything along.
func takeDown(link netlink.Link) error {
	err := removeExtra(link, Network{})
	if err == nil {
		err = netlink.LinkSetDown(link)
	}
	if err == nil || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("device %s: take down: %w", link.Attrs().Name, err)
}

// removeExtra removes what is not in n.
func removeExtra(link netlink.Link, n Network) error {
	var errs []error
	routes, err := routesOf(link)
	errs = append(errs, err)
	for _, p := range routes {
		if slices.Contains(n.Routes, p) {
			continue
		}
		// Scope "nowhere" stands for any: it is a part of what is matched.
		err := netlink.RouteDel(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: toIPNet(p), Scope: netlink.SCOPE_NOWHERE})
		if err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("device %s: remove route %s: %w", link.Attrs().Name, p, err))
		}
	}
	addrs, err := addrsOf(link)
	errs = append(errs, err)
	for _, p := range addrs {
		if slices.Contains(n.Addrs, p) {
			continue
		}
		err := netlink.AddrDel(link, &netlink.Addr{IPNet: toIPNet(p)})
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("device %s: remove address %s: %w", link.Attrs().Name, p, err))
		}
	}
	return errors.Join(errs...)
}

// addrsOf leaves out link-local addresses: the kernel makes those itself.
func addrsOf(link netlink.Link) ([]netip.Prefix, error) {
	list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("device %s: list addresses: %w", link.Attrs().Name, err)
	}
	var out []netip.Prefix
	for _, a := range list {
		if p, ok := toPrefix(a.IPNet); ok && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p)
		}
	}
	return out, nil
}

// routesOf leaves out the routes that the kernel makes with an address.
func routesOf(link netlink.Link) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.RouteList(link, family)
		if err != nil {
			return nil, fmt.Errorf("device %s: list routes: %w", link.Attrs().Name, err)
		}
		for _, r := range list {
			if p, ok := toPrefix(r.Dst); ok && r.Protocol != unix.RTPROT_KERNEL {
				out = append(out, p)
			}
		}
	}
	return out, nil
}
