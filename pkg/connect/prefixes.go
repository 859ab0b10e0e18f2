package connect

import (
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// compact sorts ranges, the widest first, and drops those inside others. Ranges
// that lie side by side stay apart: they are shown to the user as the cluster
// has them.
func compact(ranges []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ranges, func(a, b netip.Prefix) int {
		if c := a.Bits() - b.Bits(); c != 0 {
			return c
		}
		return a.Addr().Compare(b.Addr())
	})
	var out []netip.Prefix
	for _, r := range ranges {
		if !slices.ContainsFunc(out, r.Overlaps) {
			out = append(out, r)
		}
	}
	return out
}

// without returns the ranges without one address: the range that has it is
// split.
func without(ranges []netip.Prefix, addr netip.Addr) []netip.Prefix {
	addr = addr.Unmap()
	var out []netip.Prefix
	for _, r := range ranges {
		if !r.Contains(addr) {
			out = append(out, r)
			continue
		}
		var b netipx.IPSetBuilder
		b.AddPrefix(r)
		b.Remove(addr)
		rest, _ := b.IPSet() // the error is about invalid ranges, which contain nothing
		out = append(out, rest.Prefixes()...)
	}
	return out
}

// dropOverlapping separates the ranges that lie over a route the host already has
// from those that may be taken. A default route does not count.
func dropOverlapping(ranges, existing []netip.Prefix) (free, taken []netip.Prefix) {
	for _, r := range ranges {
		if slices.ContainsFunc(existing, func(e netip.Prefix) bool { return e.Bits() > 0 && e.Overlaps(r) }) {
			taken = append(taken, r)
		} else {
			free = append(free, r)
		}
	}
	return free, taken
}
