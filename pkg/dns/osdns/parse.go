package osdns

import (
	"net/netip"
	"strings"
)

// resolvFile is a resolv.conf(5) as far as it matters here.
type resolvFile struct {
	servers []netip.Addr
	search  []string
	options []string
	others  []string // other settings, as they stand
}

// parseResolvConf reads as the C library does: what it does not understand it
// skips, and of several search lists the last one counts.
func parseResolvConf(content []byte) resolvFile {
	var f resolvFile
	for line := range strings.Lines(string(content)) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if len(words) > 1 {
				if a, err := netip.ParseAddr(words[1]); err == nil {
					f.servers = append(f.servers, a)
				}
			}
		case "search", "domain":
			f.search = nil
			for _, s := range words[1:] {
				if s = strings.TrimSuffix(s, "."); goodName.MatchString(s) {
					f.search = append(f.search, s)
				}
			}
		case "options":
			f.options = append(f.options, words[1:]...)
		default:
			f.others = append(f.others, line)
		}
	}
	return f
}

// upstream is what the C library would ask by this file.
func (f resolvFile) upstream() Upstream {
	u := Upstream{Search: f.search}
	for _, a := range f.servers {
		u.Servers = append(u.Servers, netip.AddrPortFrom(a, 53))
	}
	if len(u.Servers) == 0 {
		u.Servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
	}
	return u
}

// hasName reports whether an option such as ndots:5 has this name.
func hasName(option, name string) bool {
	before, _, _ := strings.Cut(option, ":")
	return before == name
}
