package datagram

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// Bound reports whether a socket of this network namespace listens at an address and port of
// UDP, be it at all addresses: a port of UDP cannot be asked. known is false where the
// kernel does not tell; Linux does, in /proc/net/udp.
func Bound(at netip.AddrPort) (bound, known bool) {
	for _, path := range []string{"/proc/net/udp", "/proc/net/udp6"} {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		known = true
		bound = bound || listed(f, at)
		_ = f.Close()
	}
	return bound, known
}

// listed looks for an unconnected socket at the address in a table as /proc/net/udp is.
func listed(table io.Reader, at netip.AddrPort) bool {
	for s := bufio.NewScanner(table); s.Scan(); {
		// sl local_address rem_address st ...; addresses are HEX:PORT
		f := strings.Fields(s.Text())
		if len(f) < 4 || !strings.HasSuffix(f[2], ":0000") {
			continue
		}
		if local, ok := parseLocal(f[1]); ok && local.Port() == at.Port() && covers(local.Addr(), at.Addr().Unmap()) {
			return true
		}
	}
	return false
}

// covers reports whether a socket bound to an address gets what is for another: at all
// addresses of IPv6 it usually does for those of IPv4.
func covers(bound, addr netip.Addr) bool {
	return bound.Unmap() == addr || bound.IsUnspecified() && (bound.Is6() || addr.Is4())
}

// parseLocal reads an address as the kernel prints it: words of its own byte order, which is
// little endian on all systems that agents and laptops have.
func parseLocal(s string) (local netip.AddrPort, ok bool) {
	digits, port, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	raw, hexErr := hex.DecodeString(digits)
	if err != nil || hexErr != nil || len(raw)%4 != 0 {
		return local, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.LittleEndian.Uint32(raw[i:]))
	}
	addr, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr, uint16(n)), ok
}
