package agent

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	routeUp     = 0x1
	routeReject = 0x200
)

// parseRoutes reads the prefixes of /proc/net/route that lead somewhere in
// particular: pods of this node, and of others where the network plugin says so.
func parseRoutes(r io.Reader) (routes []netip.Prefix) {
	for s := bufio.NewScanner(r); s.Scan(); {
		// Iface Destination Gateway Flags RefCnt Use Metric Mask ...
		f := strings.Fields(s.Text())
		if len(f) < 8 {
			continue
		}
		dst, err1 := hex.DecodeString(f[1])
		flags, err2 := strconv.ParseUint(f[3], 16, 32)
		mask, err3 := strconv.ParseUint(f[7], 16, 32)
		if err1 != nil || err2 != nil || err3 != nil || len(dst) != 4 || flags&routeUp == 0 || flags&routeReject != 0 {
			continue
		}
		// The kernel prints words of its own byte order; all of ours are
		// little endian.
		slices.Reverse(dst)
		ones := bits.OnesCount32(bits.ReverseBytes32(uint32(mask)))
		routes = addRoute(routes, netip.PrefixFrom(netip.AddrFrom4([4]byte(dst)), ones))
	}
	return routes
}

// parseIPv6Routes does the same for /proc/net/ipv6_route.
func parseIPv6Routes(r io.Reader) (routes []netip.Prefix) {
	for s := bufio.NewScanner(r); s.Scan(); {
		// dst dst-length src src-length gateway metric refcnt use flags iface
		f := strings.Fields(s.Text())
		if len(f) < 10 || f[9] == "lo" {
			continue
		}
		dst, err1 := hex.DecodeString(f[0])
		length, err2 := strconv.ParseUint(f[1], 16, 8)
		flags, err3 := hex.DecodeString(f[8])
		if err1 != nil || err2 != nil || err3 != nil || len(dst) != 16 || len(flags) != 4 {
			continue
		}
		if v := binary.BigEndian.Uint32(flags); v&routeUp == 0 || v&routeReject != 0 {
			continue
		}
		routes = addRoute(routes, netip.PrefixFrom(netip.AddrFrom16([16]byte(dst)), int(length)))
	}
	return routes
}

// addRoute leaves out default routes and what is never another pod.
func addRoute(routes []netip.Prefix, p netip.Prefix) []netip.Prefix {
	a := p.Addr()
	if !p.IsValid() || p.Bits() == 0 || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || slices.Contains(routes, p.Masked()) {
		return routes
	}
	return append(routes, p.Masked())
}
