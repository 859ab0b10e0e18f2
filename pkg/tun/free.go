package tun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// FreePrefix chooses a /30 for a device: the first usable address is the
// host's, the second is free for a service inside the device, such as DNS. It
// overlaps nothing in existing or avoid; entries there that stand for "all
// other addresses" (see IsDefault) are passed over.
//
// The candidates, in this order, are the first /30 of each /24 of
// 198.18.0.0/15 (benchmarks between networks, RFC 2544, so it is routed
// nowhere), and then each /30 of the three documentation networks (RFC 5737).
func FreePrefix(existing, avoid []netip.Prefix) (netip.Prefix, error) {
	taken := slices.DeleteFunc(slices.Concat(existing, avoid), IsDefault)
	for _, c := range []struct {
		from netip.Prefix
		step uint32
	}{
		{netip.MustParsePrefix("198.18.0.0/15"), 256},
		{netip.MustParsePrefix("192.0.2.0/24"), 4},
		{netip.MustParsePrefix("198.51.100.0/24"), 4},
		{netip.MustParsePrefix("203.0.113.0/24"), 4},
	} {
		base := c.from.Addr().As4()
		first := binary.BigEndian.Uint32(base[:])
		for off := uint32(0); off < 1<<(32-c.from.Bits()); off += c.step {
			var a [4]byte
			binary.BigEndian.PutUint32(a[:], first+off)
			if p := netip.PrefixFrom(netip.AddrFrom4(a), 30); !slices.ContainsFunc(taken, p.Overlaps) {
				return p, nil
			}
		}
	}
	return netip.Prefix{}, fmt.Errorf("no free range for the tun among 198.18.0.0/15 and the documentation networks: %w", errNoRoom)
}

var errNoRoom = errors.New("all candidates overlap existing routes")

// IsDefault reports whether p stands for "all other addresses": a default
// route, or one of the two halves that VPN clients install instead of one.
func IsDefault(p netip.Prefix) bool { return p.Bits() <= 1 }
