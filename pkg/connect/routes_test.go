package connect

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
)

// lastNetwork keeps the network that was set last.
type lastNetwork struct{ tun.Network }

func (l *lastNetwork) SetNetwork(_ context.Context, n tun.Network) error {
	l.Network = n
	return nil
}

// Of the addresses in answers, those get a route that are private, routed
// nowhere yet and not to be avoided.
func TestRoutesAdd(t *testing.T) {
	known := prefixes("10.96.0.0/16")
	avoid := netip.MustParseAddr("10.200.255.254")
	var set lastNetwork
	r := newRoutes(&set, tun.Network{Routes: known}, []netip.Addr{avoid}, slog.New(slog.DiscardHandler))
	r.existing = func() ([]netip.Prefix, error) { return prefixes("0.0.0.0/0", "10.201.0.0/16"), nil }
	if err := r.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	var addrs []netip.Addr
	for _, a := range []string{"10.96.0.10", "10.200.255.253", "10.201.0.1", "192.0.2.1", avoid.String()} {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	r.add(t.Context(), addrs)
	if want := append(known, prefixes("10.200.255.253/32")...); !slices.Equal(set.Routes, want) {
		t.Errorf("routes %v, want %v", set.Routes, want)
	}
	if !r.contains(addrs[1]) || r.contains(addrs[2]) {
		t.Error("contains does not know what is routed")
	}
}
