package helper

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// good is a network that every rule allows.
func good() tun.Network {
	return tun.Network{
		Addrs:  prefixes("198.18.0.1/30", "fd00:7e1e::1/126"),
		Routes: prefixes("10.96.0.0/16", "fd00:96::/112"),
	}
}

func TestCheckNetwork(t *testing.T) {
	existing := []tun.Route{
		{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Dev: "eth0"},
		{Prefix: netip.MustParsePrefix("128.0.0.0/1"), Dev: "vpn0"},
		{Prefix: netip.MustParsePrefix("192.168.1.0/24"), Dev: "eth0"},
		{Prefix: netip.MustParsePrefix("2001:db8::/64"), Dev: "eth0"},
		{Prefix: netip.MustParsePrefix("198.18.0.0/30"), Dev: "tele0"},
		{Prefix: netip.MustParsePrefix("203.0.113.7/32")},
	}
	with := func(change func(*tun.Network)) tun.Network {
		n := good()
		change(&n)
		return n
	}
	route := func(p string) tun.Network {
		return with(func(n *tun.Network) { n.Routes = append(n.Routes, netip.MustParsePrefix(p)) })
	}
	addr := func(p string) tun.Network {
		return with(func(n *tun.Network) { n.Addrs = append(n.Addrs, netip.MustParsePrefix(p)) })
	}
	many := func(n int) []netip.Prefix {
		var out []netip.Prefix
		for i := range n {
			out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
		}
		return out
	}
	for _, tt := range []struct {
		name string
		now  tun.Network
		next tun.Network
		want string // part of the refusal; empty: allowed
	}{
		{name: "good", next: good()},
		{name: "nothing", next: tun.Network{}},
		{name: "shortest ranges", next: with(func(n *tun.Network) { n.Routes = prefixes("10.0.0.0/8", "fd00::/16") })},
		{name: "single addresses", next: with(func(n *tun.Network) { n.Routes = prefixes("10.1.2.3/32", "fd00::1/128") })},
		{name: "most ranges", next: with(func(n *tun.Network) { n.Routes = many(maxRanges) })},
		{name: "too many ranges", next: with(func(n *tun.Network) { n.Routes = many(maxRanges + 1) }), want: "more than"},
		{name: "too many addresses", next: with(func(n *tun.Network) { n.Addrs = many(maxAddrs + 1) }), want: "more than"},
		{name: "no address", next: with(func(n *tun.Network) { n.Addrs = nil }), want: "without an address"},
		{name: "default", next: route("0.0.0.0/0"), want: "wider than /8"},
		{name: "half of all", next: route("0.0.0.0/1"), want: "wider than /8"},
		{name: "wide", next: route("10.0.0.0/7"), want: "wider than /8"},
		{name: "default v6", next: route("::/0"), want: "wider than /16"},
		{name: "global v6", next: route("2000::/3"), want: "wider than /16"},
		{name: "wide v6", next: route("fd00::/15"), want: "wider than /16"},
		{name: "invalid", next: with(func(n *tun.Network) { n.Routes = []netip.Prefix{{}} }), want: "not a range"},
		{name: "v4 in v6", next: route("::ffff:10.0.0.0/104"), want: "not a range"},
		{name: "bits beyond", next: route("10.96.0.1/16"), want: "beyond its length"},
		{name: "this network", next: route("0.0.0.0/8"), want: "0.0.0.0/8"},
		{name: "loopback", next: route("127.0.0.0/8"), want: "127.0.0.0/8"},
		{name: "loopback inside", next: route("127.1.0.0/16"), want: "127.0.0.0/8"},
		{name: "link-local", next: route("169.254.169.254/32"), want: "169.254.0.0/16"},
		{name: "link-local around", next: route("169.0.0.0/8"), want: "169.254.0.0/16"},
		{name: "multicast", next: route("239.0.0.0/8"), want: "224.0.0.0/4"},
		{name: "broadcast", next: route("255.0.0.0/8"), want: "255.255.255.255/32"},
		{name: "loopback v6", next: route("::1/128"), want: "::/16"},
		{name: "link-local v6", next: route("fe80::/64"), want: "fe80::/10"},
		{name: "multicast v6", next: route("ff02::/16"), want: "ff00::/8"},
		{name: "twice", next: route("10.96.0.0/16"), want: "twice"},
		{name: "loopback address", next: addr("127.0.0.1/32"), want: "127.0.0.0/8"},
		{name: "wide address", next: addr("10.0.0.1/0"), want: "wider than /8"},
		{name: "same address twice", next: addr("198.18.0.1/30"), want: "twice"},
		{name: "over the office", next: route("192.168.0.0/16"), want: "overlaps the route 192.168.1.0/24 of eth0"},
		{name: "inside the office", next: route("192.168.1.128/25"), want: "192.168.1.0/24"},
		{name: "office v6", next: route("2001:db8::/32"), want: "2001:db8::/64"},
		{name: "route without a device", next: route("203.0.113.0/24"), want: "of this host"},
		{name: "address in the office", next: addr("192.168.1.77/24"), want: "192.168.1.0/24"},
		{name: "office came later", now: route("192.168.0.0/16"), next: route("192.168.0.0/16")},
	} {
		err := checkNetwork("tele0", tt.now, tt.next, existing)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: refused: %v", tt.name, err)
		case tt.want != "" && err == nil:
			t.Errorf("%s: allowed", tt.name)
		case tt.want != "" && !strings.Contains(err.Error(), tt.want):
			t.Errorf("%s: %q does not say %q", tt.name, err, tt.want)
		}
	}
}

func TestCheckDNS(t *testing.T) {
	fine := func() DNS {
		return DNS{Servers: addrs("198.18.0.2"), Search: []string{"shop.svc.cluster.local", "svc.cluster.local."}, Domains: []string{"cluster.local", "shop"}, Ndots: 5}
	}
	for name, tt := range map[string]struct {
		change func(*DNS)
		want   string
	}{
		"fine":               {func(*DNS) {}, ""},
		"nothing":            {func(d *DNS) { *d = DNS{} }, ""},
		"server in a route":  {func(d *DNS) { d.Servers = addrs("10.96.0.10") }, ""},
		"server elsewhere":   {func(d *DNS) { d.Servers = addrs("8.8.8.8") }, "not inside"},
		"server on loopback": {func(d *DNS) { d.Servers = addrs("127.0.0.1") }, "not inside"},
		"server in disguise": {func(d *DNS) { d.Servers = addrs("::ffff:10.96.0.10") }, "not inside"},
		"no server":          {func(d *DNS) { d.Servers = nil }, "servers"},
		"invalid server":     {func(d *DNS) { d.Servers = []netip.Addr{{}} }, "not inside"},
		"many servers":       {func(d *DNS) { d.Servers = addrs("10.96.0.1", "10.96.0.2", "10.96.0.3", "10.96.0.4", "10.96.0.5") }, "servers"},
		"many names":         {func(d *DNS) { d.Search = strings.Split(strings.Repeat("ab ", 65), " ") }, "names"},
		"root":               {func(d *DNS) { d.Domains = []string{"."} }, "characters"},
		"empty":              {func(d *DNS) { d.Domains = []string{""} }, "characters"},
		"single letter":      {func(d *DNS) { d.Domains = []string{"a"} }, "characters"},
		"long":               {func(d *DNS) { d.Search = []string{strings.Repeat("ab.", 90)} }, "characters"},
		"long label":         {func(d *DNS) { d.Search = []string{strings.Repeat("a", 64)} }, "not a DNS name"},
		"empty label":        {func(d *DNS) { d.Search = []string{"a..b"} }, "not a DNS name"},
		"dash":               {func(d *DNS) { d.Search = []string{"-a.b"} }, "not a DNS name"},
		"line":               {func(d *DNS) { d.Search = []string{"a.b\nnameserver 6.6.6.6"} }, "not a DNS name"},
		"space":              {func(d *DNS) { d.Search = []string{"a.b c.d"} }, "not a DNS name"},
		"wildcard":           {func(d *DNS) { d.Domains = []string{"*.com"} }, "not a DNS name"},
		"routing domain":     {func(d *DNS) { d.Domains = []string{"~com"} }, "not a DNS name"},
		"upper case":         {func(d *DNS) { d.Domains = []string{"Shop"} }, "not a DNS name"},
		"ndots":              {func(d *DNS) { d.Ndots = 16 }, "ndots"},
		"negative ndots":     {func(d *DNS) { d.Ndots = -1 }, "ndots"},
	} {
		d := fine()
		tt.change(&d)
		err := checkDNS(d, good())
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: refused: %v", name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v does not say %q", name, err, tt.want)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{`{"id":1,"op":"hello","version":1}`, ""},
		{`{"id":1,"op":"open-tun","mtu":65535}`, ""},
		{`{"id":1,"op":"set-network","network":{"addrs":[],"routes":[]}}`, ""},
		{`{"id":1,"op":"set-dns","dns":{}}`, ""},
		{`{"id":1,"op":"close"}`, ""},
		{``, "EOF"},
		{`{`, "EOF"},
		{`[]`, "cannot unmarshal"},
		{`{"id":-1,"op":"close"}`, "cannot unmarshal"},
		{`{"id":1,"op":"close"} {}`, "more than one"},
		{`{"id":1,"op":"close","path":"/etc/passwd"}`, "unknown field"},
		{`{"id":1,"op":"set-dns","dns":{"file":"/etc/resolv.conf"}}`, "unknown field"},
		{`{"id":1,"op":"set-network","network":{"dev":"eth0"}}`, "unknown field"},
		{`{"id":1,"op":"set-network","network":{"routes":["10.0.0.0"]}}`, "cannot unmarshal"},
		{`{"id":1,"op":"exec"}`, "no such request"},
		{`{"id":1}`, "no such request"},
		{`{"id":1,"op":"open-tun","mtu":65535,"network":{}}`, "do not belong"},
		{`{"id":1,"op":"close","mtu":1}`, "do not belong"},
		{`{"id":1,"op":"set-network"}`, "no network"},
		{`{"id":1,"op":"set-network","network":null}`, "no network"},
		{`{"id":1,"op":"set-network","network":{},"dns":{}}`, "do not belong"},
		{`{"id":1,"op":"set-dns"}`, "no dns"},
		{`{"id":1,"op":"hello","version":1,"mtu":1}`, "do not belong"},
	} {
		line, want := tt.line, tt.want
		var req request
		err := decode([]byte(line), &req)
		if err == nil {
			err = req.shape()
		}
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", line, err)
		case want != "" && err == nil:
			t.Errorf("%s: accepted", line)
		case want != "" && !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "netip"):
			t.Errorf("%s: %q does not say %q", line, err, want)
		}
	}
}

// FuzzRequest looks for a message that passes all checks and yet asks for
// what no session may have.
func FuzzRequest(f *testing.F) {
	n := good()
	for _, r := range []request{
		{ID: 1, Op: opHello, Version: protocol},
		{ID: 2, Op: opOpenTUN, MTU: 65535},
		{ID: 3, Op: opSetNetwork, Network: &n},
		{ID: 4, Op: opSetDNS, DNS: &DNS{Servers: addrs("198.18.0.2"), Search: []string{"a.b"}}},
	} {
		line, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var r request
		if decode(line, &r) != nil || r.shape() != nil {
			return
		}
		if r.Network != nil && checkNetwork("tele0", tun.Network{}, *r.Network, nil) == nil {
			for _, p := range r.Network.Routes {
				for _, never := range addrs("0.0.0.0", "127.0.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "ff02::1") {
					if p.Contains(never) {
						t.Errorf("route %s allowed", p)
					}
				}
			}
		}
		if r.DNS != nil && checkDNS(*r.DNS, good()) == nil {
			if text := fmt.Sprint(r.DNS.Search, r.DNS.Domains); strings.ContainsAny(text, "\n\r\t#;~*\"'\\") {
				t.Errorf("names %q allowed", text)
			}
		}
	})
}
