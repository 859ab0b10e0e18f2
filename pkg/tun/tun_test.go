package tun

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun/tuntest"
)

func TestMain(m *testing.M) { tuntest.Main(m) }

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestFreePrefix(t *testing.T) {
	for _, tt := range []struct {
		name     string
		existing []netip.Prefix
		avoid    []netip.Prefix
		want     string // empty: none
	}{
		{name: "nothing there", want: "198.18.0.0/30"},
		{name: "default routes", existing: prefixes("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0"), want: "198.18.0.0/30"},
		{name: "first taken", existing: prefixes("198.18.0.0/30"), want: "198.18.1.0/30"},
		{name: "first two taken", existing: prefixes("198.18.0.2/32"), avoid: prefixes("198.18.1.0/24"), want: "198.18.2.0/30"},
		{name: "benchmark range taken", existing: prefixes("198.16.0.0/12"), want: "192.0.2.0/30"},
		{name: "documentation", existing: prefixes("198.18.0.0/15", "192.0.2.0/29"), want: "192.0.2.8/30"},
		{name: "full", existing: prefixes("198.0.0.0/8", "192.0.0.0/8"), avoid: prefixes("203.0.0.0/8")},
	} {
		got, err := FreePrefix(tt.existing, tt.avoid)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%s: %s, want none", tt.name, got)
			}
			continue
		}
		if err != nil || got.String() != tt.want {
			t.Errorf("%s: %s, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}

const netstatOutput = `Routing tables

Internet:
Destination        Gateway            Flags               Netif Expire
default            192.168.1.1        UGScg                 en0
10.96/16           utun4              USc                 utun4
10.244.1/24        10.8.0.1           UGSc                utun5
127                127.0.0.1          UCS                   lo0
127.0.0.1          127.0.0.1          UH                    lo0
169.254            link#14            UCS                   en0      !
172.16.5.9         link#20            UHS                 utun7
192.168.1          link#14            UCS                   en0      !
192.168.1.1/32     link#14            UCS                   en0      !
224.0.0/4          link#14            UmCS                  en0      !
255.255.255.255/32 link#14            UCS                   en0      !
nonsense/99        link#14            UCS                   en0

Internet6:
Destination                             Gateway                                 Flags               Netif Expire
default                                 fe80::1%en0                             UGcg                  en0
::1                                     ::1                                     UHL                   lo0
2001:db8::/64                           link#14                                 UC                    en0
2001:db8::5                             a8:66:7f:0:0:0                          UHLWI                 en0
fe80::%utun0/64                         fe80::1%utun0                           UcI                 utun0
fd00:96::/112                           utun4                                   USc                 utun4
ff00::/8                                ::1                                     UmCI                  lo0
`

func TestParseNetstat(t *testing.T) {
	var got []string
	for _, r := range parseNetstat([]byte(netstatOutput)) {
		got = append(got, r.Prefix.String()+" "+r.Dev)
	}
	want := []string{
		"10.96.0.0/16 utun4", "10.244.1.0/24 utun5", "172.16.5.9/32 utun7", "192.168.1.0/24 en0", "192.168.1.1/32 en0",
		"255.255.255.255/32 en0", "2001:db8::/64 en0", "2001:db8::5/128 en0", "fd00:96::/112 utun4",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPlan(t *testing.T) {
	one := Network{Addrs: prefixes("198.18.0.1/30"), Routes: prefixes("10.96.0.0/16")}
	two := Network{Addrs: prefixes("198.18.0.1/30", "fd00:7e1e::1/126"), Routes: prefixes("10.244.0.0/16", "fd00:96::/112")}
	for _, tt := range []struct {
		name     string
		from, to Network
		want     string
	}{
		{"nothing", Network{}, Network{}, ""},
		{"first", Network{}, one, `
ifconfig utun9 inet 198.18.0.1 198.18.0.1 netmask 255.255.255.252 up
route -n add -inet -net 198.18.0.0/30 -interface utun9
route -n add -inet -net 10.96.0.0/16 -interface utun9`},
		{"again", one, one, ""},
		{"change", one, two, `
ifconfig utun9 inet6 fd00:7e1e::1 prefixlen 126 up
route -n add -inet6 -net fd00:7e1e::/126 -interface utun9
route -n add -inet -net 10.244.0.0/16 -interface utun9
route -n add -inet6 -net fd00:96::/112 -interface utun9
route -n delete -inet -net 10.96.0.0/16 -interface utun9`},
		{"remove", two, Network{}, `
route -n delete -inet -net 198.18.0.0/30 -interface utun9
route -n delete -inet6 -net fd00:7e1e::/126 -interface utun9
route -n delete -inet -net 10.244.0.0/16 -interface utun9
route -n delete -inet6 -net fd00:96::/112 -interface utun9
ifconfig utun9 inet 198.18.0.1 delete
ifconfig utun9 inet6 fd00:7e1e::1 delete`},
	} {
		var got strings.Builder
		for _, c := range plan("utun9", tt.from, tt.to) {
			got.WriteString("\n" + strings.Join(c, " "))
		}
		if got.String() != tt.want {
			t.Errorf("%s: got%s\nwant%s", tt.name, got.String(), tt.want)
		}
	}
}

func TestNetworkCheck(t *testing.T) {
	for _, n := range []Network{
		{Addrs: []netip.Prefix{{}}},
		{Addrs: prefixes("0.0.0.0/8")},
		{Addrs: prefixes("::ffff:1.2.3.4/120")},
		{Routes: []netip.Prefix{{}}},
		{Routes: prefixes("10.96.0.1/16")},
	} {
		if err := NewRouter().Set("tele0", n); err == nil {
			t.Errorf("%+v: accepted", n)
		}
	}
	if !(Network{}).Empty() || (Network{Routes: prefixes("10.0.0.0/8")}).Empty() {
		t.Error("empty")
	}
}
