package helper

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
)

// The rules. They bound what a session may have done as root:
//   - ranges are unicast, no shorter than /8 (IPv4) or /16 (IPv6), and contain
//     no loopback, link-local or multicast address; so none is a default route
//   - no new range overlaps a route of another device, unless that is a
//     default route
//   - DNS servers are inside the addresses or routes of the device
//   - names are plain DNS names of at least two characters
const (
	minBits4, minBits6 = 8, 16
	maxRanges          = 4096
	maxAddrs           = 8
	maxServers         = 4
	maxNames           = 64
	maxName            = 253
	maxNdots           = 15
)

// forbidden ranges are never to be led into a device.
func forbidden() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),
		netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("169.254.0.0/16"),
		netip.MustParsePrefix("224.0.0.0/4"),
		netip.MustParsePrefix("255.255.255.255/32"),
		netip.MustParsePrefix("::/16"), // unspecified, loopback, IPv4 in disguise
		netip.MustParsePrefix("fe80::/10"),
		netip.MustParsePrefix("ff00::/8"),
	}
}

func checkRange(p netip.Prefix) error {
	switch {
	case !p.IsValid() || p.Addr().Is4In6() || p.Addr().Zone() != "":
		return fmt.Errorf("%s: not a range", p)
	case p.Addr().Is4() && p.Bits() < minBits4:
		return fmt.Errorf("%s: wider than /%d", p, minBits4)
	case p.Addr().Is6() && p.Bits() < minBits6:
		return fmt.Errorf("%s: wider than /%d", p, minBits6)
	}
	for _, f := range forbidden() {
		if f.Overlaps(p) {
			return fmt.Errorf("%s: overlaps %s", p, f)
		}
	}
	return nil
}

// checkNetwork judges next, where now is what the device has and existing are
// the routes of the host.
func checkNetwork(dev string, now, next tun.Network, existing []tun.Route) error {
	if len(next.Addrs) > maxAddrs || len(next.Routes) > maxRanges {
		return fmt.Errorf("more than %d addresses or %d routes", maxAddrs, maxRanges)
	}
	if len(next.Addrs) == 0 && len(next.Routes) > 0 {
		return fmt.Errorf("routes without an address")
	}
	for i, p := range next.Addrs {
		if err := checkRange(p); err != nil {
			return fmt.Errorf("address %w", err)
		}
		if slices.Contains(next.Addrs[:i], p) {
			return fmt.Errorf("address %s: twice", p)
		}
	}
	for _, p := range next.Routes {
		if err := checkRange(p); err != nil {
			return fmt.Errorf("route %w", err)
		}
		if p != p.Masked() {
			return fmt.Errorf("route %s: has bits beyond its length", p)
		}
	}
	seen := make(map[netip.Prefix]bool, len(next.Routes))
	for _, p := range next.Routes {
		if seen[p] {
			return fmt.Errorf("route %s: twice", p)
		}
		seen[p] = true
	}
	had := make(map[netip.Prefix]bool)
	for _, p := range slices.Concat(now.Addrs, now.Routes) {
		had[p.Masked()] = true
	}
	for _, p := range slices.Concat(next.Addrs, next.Routes) {
		if had[p.Masked()] {
			continue // what came later must give way, not this
		}
		for _, r := range existing {
			if r.Dev != dev && !tun.IsDefault(r.Prefix) && r.Prefix.Overlaps(p) {
				return fmt.Errorf("range %s: overlaps the route %s of %s", p.Masked(), r.Prefix, cmpOr(r.Dev, "this host"))
			}
		}
	}
	return nil
}

func cmpOr(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func checkDNS(d DNS, n tun.Network) error {
	if d.Empty() {
		return nil
	}
	if len(d.Servers) == 0 || len(d.Servers) > maxServers {
		return fmt.Errorf("%d servers: not 1 to %d", len(d.Servers), maxServers)
	}
	for _, s := range d.Servers {
		if !slices.ContainsFunc(slices.Concat(n.Addrs, n.Routes), func(p netip.Prefix) bool { return p.Masked().Contains(s) }) {
			return fmt.Errorf("server %s: not inside the device's ranges", s)
		}
	}
	if len(d.Search) > maxNames || len(d.Domains) > maxNames {
		return fmt.Errorf("more than %d names", maxNames)
	}
	for _, name := range slices.Concat(d.Search, d.Domains) {
		if err := checkName(name); err != nil {
			return err
		}
	}
	if d.Ndots < 0 || d.Ndots > maxNdots {
		return fmt.Errorf("ndots %d: not 0 to %d", d.Ndots, maxNdots)
	}
	return nil
}

// checkName takes no escapes and nothing that has a meaning in a
// configuration file.
func checkName(name string) error {
	trimmed := strings.TrimSuffix(name, ".")
	if len(trimmed) < 2 || len(trimmed) > maxName {
		return fmt.Errorf("name %.40q: not 2 to %d characters", name, maxName)
	}
	for label := range strings.SplitSeq(trimmed, ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return fmt.Errorf("name %.40q: not a DNS name", name)
		}
		for _, c := range label {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return fmt.Errorf("name %.40q: not a DNS name in lower case", name)
			}
		}
	}
	return nil
}
