package connect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"time"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun/helper"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun/netstack"
)

const (
	// tunMTU is the largest IP packet: the peer is the local kernel, and each
	// packet has a fixed cost.
	tunMTU = 65535
	// helperLimit is how long a person may take to give a password.
	helperLimit = 2 * time.Minute
	// ndots is that of a pod: names with fewer dots are tried in the cluster
	// first.
	ndots = 5
)

// host is this machine's side of a Network: the TUN, the stack that reads it, the
// DNS server, and the privileged helper that holds routes and resolver settings.
type host struct {
	log    *slog.Logger
	helper *helper.Client
	device tun.Device
	stack  *netstack.Stack // nil until start
	names  *names          // nil until start
	domain string
}

// hostSpec is what start needs to know of the cluster.
type hostSpec struct {
	namespace string
	info      agent.Info
	ranges    clusterRanges
	agent     *cluster.OwnAgent
	avoid     []netip.Addr // never routed
	shortcut  func(ctx context.Context, to netip.AddrPort) splice.Conn
}

// openHost waits for the privileged helper and gets the TUN from it. Nothing is
// routed yet.
func openHost(ctx context.Context, dir string, log *slog.Logger, p api.Progress) (*host, error) {
	listener, err := helper.Listen(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = listener.Close() }()
	p.Emit(api.Event{HelperSocket: listener.Path()})
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
	return &host{log: log, helper: client, device: device}, nil
}

// start starts stack and DNS server and then, when both answer, routes the
// cluster's addresses and names to them.
func (h *host) start(ctx context.Context, spec hostSpec) error {
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
	dnsIP := own.Addr().Next()
	h.domain = clusterDomain(spec.info.Search, spec.namespace)
	upstream, err := upstreamResolvers()
	if err != nil {
		return err
	}
	dial := dialer{spec.agent, spec.shortcut}
	h.stack, err = netstack.New(h.device, netstack.Config{
		MTU:     tunMTU,
		Addrs:   []netip.Prefix{own},
		Local:   []netip.Addr{dnsIP},
		DialTCP: dial.tcp,
		DialUDP: dial.udp,
		Log:     h.log,
	})
	if err != nil {
		return err
	}
	routes := newRoutes(h.helper, tun.Network{Addrs: []netip.Prefix{own}, Routes: all}, spec.avoid, h.log)
	h.names, err = serveNames(h.stack, namesConfig{
		addr: dnsIP, domain: h.domain, upstream: upstream,
		cluster: dial.conn, server: spec.info.Nameservers[0],
		routes: routes, log: h.log,
	})
	if err != nil {
		return err
	}
	if err := routes.apply(ctx); err != nil {
		return fmt.Errorf("route the cluster's addresses: %w", err)
	}
	search := []string{spec.namespace + ".svc." + h.domain, "svc." + h.domain, h.domain}
	for _, s := range upstream.Search {
		if !slices.Contains(search, s) {
			search = append(search, s)
		}
	}
	if err := h.helper.SetDNS(ctx, helper.DNS{
		Servers: []netip.Addr{dnsIP},
		Search:  search,
		Domains: []string{h.domain},
		Ndots:   ndots,
	}); err != nil {
		return fmt.Errorf("set the resolver: %w", err)
	}
	return nil
}

// status sets what the host knows of a network's status.
func (h *host) status(st *api.NetworkStatus) {
	st.Device, st.Domain, st.DNS = h.device.Name(), h.domain, h.names.addr
	select {
	case <-h.helper.Done():
		st.HelperGone = true
	default:
	}
}

// close puts the laptop's DNS and routes back and closes stack and device.
func (h *host) close() error {
	errs := []error{h.helper.Close()}
	if h.names != nil {
		h.names.stop()
	}
	if h.stack != nil {
		errs = append(errs, h.stack.Close())
	}
	if err := h.device.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		errs = append(errs, err)
	}
	if h.names != nil {
		h.names.wait()
	}
	return errors.Join(errs...)
}
