package tun

import (
	"bufio"
	"bytes"
	"net/netip"
	"strconv"
	"strings"
)

// parseNetstat reads the tables of BSD's `netstat -rn`. Destinations there
// leave out trailing zero bytes ("10.96/16", "169.254") and lengths that
// follow from the number of bytes, and carry a zone ("fe80::%utun0/64").
// Lines that are not routes are passed over.
func parseNetstat(out []byte) []Route {
	var (
		routes []Route
		netif  = -1 // column of the interface
		v6     bool
	)
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 0:
			continue
		case strings.HasSuffix(fields[0], ":"):
			v6 = fields[0] == "Internet6:"
			continue
		case fields[0] == "Destination":
			netif = -1
			for i, f := range fields {
				if f == "Netif" {
					netif = i
				}
			}
			continue
		}
		p, ok := parseDestination(fields[0], v6)
		if !ok || !matters(p) {
			continue
		}
		r := Route{Prefix: p}
		if netif >= 0 && netif < len(fields) {
			r.Dev = fields[netif]
		}
		routes = append(routes, r)
	}
	return routes
}

func parseDestination(s string, v6 bool) (netip.Prefix, bool) {
	host, length, sized := strings.Cut(s, "/")
	host, _, _ = strings.Cut(host, "%")
	bits := -1
	if sized {
		n, err := strconv.Atoi(length)
		if err != nil {
			return netip.Prefix{}, false
		}
		bits = n
	}
	if !v6 {
		bytes := strings.Count(host, ".") + 1
		if bits < 0 {
			bits = 8 * bytes
		}
		host += strings.Repeat(".0", max(4-bytes, 0))
	} else if bits < 0 {
		bits = 128
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Is6() != v6 {
		return netip.Prefix{}, false
	}
	p, err := addr.Prefix(bits)
	return p, err == nil
}
