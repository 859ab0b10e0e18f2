package connect

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
)

// maxAddedRoutes bounds the routes made for addresses that DNS answered outside
// the known ranges.
const maxAddedRoutes = 256

// networkSetter makes a network everything that the device has, as
// helper.Client does.
type networkSetter interface {
	SetNetwork(ctx context.Context, n tun.Network) error
}

// routes is what is routed into the TUN: the known ranges, and addresses that the
// cluster's DNS has answered. Its methods may be called concurrently.
type routes struct {
	setter   networkSetter
	existing func() ([]netip.Prefix, error) // what this machine routes already
	avoid    []netip.Addr                   // never routed
	log      *slog.Logger

	mu      sync.Mutex
	network tun.Network
	added   int
}

func newRoutes(setter networkSetter, network tun.Network, avoid []netip.Addr, log *slog.Logger) *routes {
	return &routes{setter: setter, existing: existingRoutes, network: network, avoid: avoid, log: log}
}

// apply routes the known ranges.
func (r *routes) apply(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.setter.SetNetwork(ctx, r.network)
}

// contains reports whether the address is routed into the TUN.
func (r *routes) contains(a netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.containsLocked(a)
}

func (r *routes) containsLocked(a netip.Addr) bool {
	return slices.ContainsFunc(r.network.Routes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// add makes host routes for addresses that only the cluster can mean: private
// ones that no route of the laptop leads to. A public address (an ExternalName,
// an ingress) is reached the laptop's own way.
func (r *routes) add(ctx context.Context, addrs []netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var missing []netip.Prefix
	for _, a := range addrs {
		if !r.containsLocked(a) && a.IsPrivate() && !slices.Contains(r.avoid, a) {
			missing = append(missing, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	if len(missing) == 0 || r.added+len(missing) > maxAddedRoutes {
		return
	}
	existing, err := r.existing()
	if err != nil {
		r.log.Warn("routes not read", "err", err)
		return
	}
	free, _ := dropOverlapping(missing, existing)
	if len(free) == 0 {
		return
	}
	next := r.network
	next.Routes = slices.Concat(r.network.Routes, free)
	if err := r.setter.SetNetwork(ctx, next); err != nil {
		r.log.Warn("addresses from DNS not routed", "addrs", free, "err", err)
		return
	}
	r.network = next
	r.added += len(free)
}
