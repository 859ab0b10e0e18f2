package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/dns"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun/helper"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun/netstack"
)

const (
	// tunMTU is the largest IP packet: the peer is the local kernel, and each
	// packet has a fixed price.
	tunMTU = 65535
	// helperLimit is how long a person may take to give a password.
	helperLimit = 2 * time.Minute
	// ndots as in a pod: names with fewer dots are tried in the cluster first.
	ndots = 5
	// maxExtraRoutes bounds the routes made for addresses that DNS answered
	// outside the known ranges.
	maxExtraRoutes = 256
)

// hostNetwork is the laptop's side: TUN, user-space stack, DNS server, and the
// helper that holds routes and resolver settings.
type hostNetwork struct {
	log    *slog.Logger
	helper *helper.Client
	device tun.Device
	stack  *netstack.Stack
	server *dns.Server
	dnsIP  netip.Addr
	domain string
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	net    tun.Network
	avoid  []netip.Addr
	extras int
}

// hostSpec is what start needs to know of the cluster.
type hostSpec struct {
	namespace string
	info      api.Info
	ranges    clusterRanges
	link      *ownAgent
	avoid     []netip.Addr
}

// openHost waits for the privileged helper and gets the TUN from it. Nothing
// is routed yet.
func openHost(ctx context.Context, dir string, log *slog.Logger, p Progress) (*hostNetwork, error) {
	listener, err := helper.Listen(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = listener.Close() }()
	p.emit(Event{HelperSocket: listener.Path()})
	wait, cancel := context.WithTimeoutCause(ctx, helperLimit, fmt.Errorf("the privileged helper did not come within %s", helperLimit))
	defer cancel()
	client, err := listener.Accept(wait)
	if err != nil {
		return nil, hint.With(fmt.Errorf("wait for the privileged helper: %w", err),
			"connect needs root for its network device alone; `kubectl tele intercept` works without")
	}
	device, err := client.OpenTUN(wait, tunMTU)
	if err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("open a network device: %w", err)
	}
	return &hostNetwork{log: log, helper: client, device: device}, nil
}

// start brings up stack and DNS and then, with everything answering, routes
// the cluster's addresses and names to them.
func (h *hostNetwork) start(ctx context.Context, spec hostSpec) error {
	existing, err := existingRoutes()
	if err != nil {
		return err
	}
	all := slices.Concat(spec.ranges.services, spec.ranges.pods)
	link, err := tun.FreePrefix(existing, all)
	if err != nil {
		return err
	}
	own := netip.PrefixFrom(link.Addr().Next(), link.Bits())
	h.dnsIP = own.Addr().Next()
	h.domain = clusterDomain(spec.info.Search, spec.namespace)
	h.avoid = spec.avoid

	upstream, err := upstreamResolvers()
	if err != nil {
		return err
	}
	h.stack, err = netstack.New(h.device, netstack.Config{
		MTU:     tunMTU,
		Addrs:   []netip.Prefix{own},
		Local:   []netip.Addr{h.dnsIP},
		DialTCP: spec.link.dialTCP,
		DialUDP: spec.link.dialUDP,
		Log:     h.log,
	})
	if err != nil {
		return err
	}
	cluster := dns.OverTunnel(spec.link.dialConn, netip.AddrPortFrom(spec.info.Nameservers[0], 53))
	h.server, err = dns.NewServer(dns.Config{
		Domain:   h.domain,
		Reverse:  h.routed,
		Cluster:  h.routing(cluster),
		Upstream: dns.Upstreams(upstream.servers),
		Search:   upstream.search,
		Log:      h.log,
	})
	if err != nil {
		return err
	}
	if err := h.serveDNS(netip.AddrPortFrom(h.dnsIP, 53)); err != nil {
		return err
	}
	h.net = tun.Network{Addrs: []netip.Prefix{own}, Routes: all}
	if err := h.helper.SetNetwork(ctx, h.net); err != nil {
		return fmt.Errorf("route the cluster's addresses: %w", err)
	}
	search := []string{spec.namespace + ".svc." + h.domain, "svc." + h.domain, h.domain}
	for _, s := range upstream.search {
		if !slices.Contains(search, s) {
			search = append(search, s)
		}
	}
	if err := h.helper.SetDNS(ctx, helper.DNS{
		Servers: []netip.Addr{h.dnsIP},
		Search:  search,
		Domains: []string{h.domain},
		Ndots:   ndots,
	}); err != nil {
		return fmt.Errorf("set the resolver: %w", err)
	}
	return nil
}

func (h *hostNetwork) serveDNS(addr netip.AddrPort) error {
	packets, err := h.stack.ListenPacket(addr)
	if err != nil {
		return err
	}
	streams, err := h.stack.Listen(addr)
	if err != nil {
		_ = packets.Close()
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	h.wg.Go(func() {
		if err := h.server.Serve(ctx, packets, streams); err != nil && ctx.Err() == nil {
			h.log.Error("the DNS server ended", "err", err)
		}
	})
	return nil
}

// routing wraps the cluster's DNS: an answered address outside the known
// ranges becomes a route of its own before the answer is passed on.
func (h *hostNetwork) routing(next dns.Exchange) dns.Exchange {
	return func(ctx context.Context, q *mdns.Msg) (*mdns.Msg, error) {
		answer, err := next(ctx, q)
		if err != nil {
			return nil, err
		}
		var addrs []netip.Addr
		for _, rr := range answer.Answer {
			switch rr := rr.(type) {
			case *mdns.A:
				if a, ok := netip.AddrFromSlice(rr.A.To4()); ok {
					addrs = append(addrs, a)
				}
			case *mdns.AAAA:
				if a, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok {
					addrs = append(addrs, a)
				}
			}
		}
		h.routeExtra(ctx, addrs)
		return answer, nil
	}
}

// routeExtra makes host routes for addresses that only the cluster can mean:
// private ones that no route of the laptop leads to. A public address (an
// ExternalName, an ingress) is reached the laptop's own way.
func (h *hostNetwork) routeExtra(ctx context.Context, addrs []netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var missing []netip.Prefix
	for _, a := range addrs {
		if !h.routedLocked(a) && a.IsPrivate() && !slices.Contains(h.avoid, a) {
			missing = append(missing, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	if len(missing) == 0 || h.extras+len(missing) > maxExtraRoutes {
		return
	}
	existing, err := existingRoutes()
	if err != nil {
		h.log.Warn("routes not read", "err", err)
		return
	}
	free, _ := dropOverlapping(missing, existing)
	if len(free) == 0 {
		return
	}
	next := h.net
	next.Routes = slices.Concat(h.net.Routes, free)
	if err := h.helper.SetNetwork(ctx, next); err != nil {
		h.log.Warn("addresses from DNS not routed", "addrs", free, "err", err)
		return
	}
	h.net = next
	h.extras += len(free)
}

func (h *hostNetwork) routed(a netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.routedLocked(a)
}

func (h *hostNetwork) routedLocked(a netip.Addr) bool {
	return slices.ContainsFunc(h.net.Routes, func(r netip.Prefix) bool { return r.Contains(a) })
}

func (h *hostNetwork) fill(st *NetworkStatus) {
	st.Device, st.Domain, st.DNS = h.device.Name(), h.domain, h.dnsIP
	st.HelperGone = h.helperGone()
}

// helperGone says whether the privileged helper has ended before its time.
// What it has set up stays as it is, and nobody is left to undo it.
func (h *hostNetwork) helperGone() bool {
	select {
	case <-h.helper.Done():
		return true
	default:
		return false
	}
}

// close puts the laptop's DNS and routes back and ends stack and device.
func (h *hostNetwork) close() error {
	errs := []error{h.helper.Close()}
	if h.cancel != nil {
		h.cancel()
	}
	if h.stack != nil {
		errs = append(errs, h.stack.Close())
	}
	if err := h.device.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		errs = append(errs, err)
	}
	h.wg.Wait()
	return errors.Join(errs...)
}
