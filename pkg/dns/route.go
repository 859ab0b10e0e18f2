package dns

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"
)

// ofCluster decides who is asked: the cluster for names in its domain and for
// reverse names of its addresses, the resolvers before ours for all others.
func (s *Server) ofCluster(name string) bool {
	if mdns.IsSubDomain(s.domain, mdns.CanonicalName(name)) {
		return true
	}
	addr, ok := reverseAddr(name)
	return ok && s.cfg.Reverse != nil && s.cfg.Reverse(addr)
}

// completed reports whether a name is one of the cluster's with a search domain
// after it, such as front.shop.svc.cluster.local.office.example: what resolver
// libraries try on their way through the search list.
func (s *Server) completed(name string) bool {
	name = mdns.CanonicalName(name)
	for _, search := range s.cfg.Search {
		rest, ok := strings.CutSuffix(name, "."+mdns.CanonicalName(search))
		if ok && mdns.IsSubDomain(s.domain, rest+".") {
			return true
		}
	}
	return false
}

// reverseAddr reads the address out of a reverse name, or out of one below it
// such as service discovery asks for: those too tell who asks about what.
func reverseAddr(name string) (netip.Addr, bool) {
	name = mdns.CanonicalName(name)
	if labels, ok := lastLabels(name, ".in-addr.arpa.", 4); ok {
		addr, err := netip.ParseAddr(strings.Join(labels, "."))
		return addr, err == nil && addr.Is4()
	}
	if labels, ok := lastLabels(name, ".ip6.arpa.", 32); ok {
		b, err := hex.DecodeString(strings.Join(labels, ""))
		if err != nil || len(b) != 16 {
			return netip.Addr{}, false
		}
		addr, ok := netip.AddrFromSlice(b)
		return addr, ok
	}
	return netip.Addr{}, false
}

// lastLabels returns the n labels before the zone, last first.
func lastLabels(name, zone string, n int) ([]string, bool) {
	rest, ok := strings.CutSuffix(name, zone)
	if !ok {
		return nil, false
	}
	labels := strings.Split(rest, ".")
	if len(labels) < n {
		return nil, false
	}
	labels = labels[len(labels)-n:]
	slices.Reverse(labels)
	return labels, true
}
