package connect

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	mdns "github.com/miekg/dns"

	"github.com/kubectl-tele/kubectl-tele/pkg/dns"
	"github.com/kubectl-tele/kubectl-tele/pkg/dns/osdns"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun/netstack"
)

// dnsPort is the port of every DNS server.
const dnsPort = 53

// names is the DNS server that this machine asks, inside the user-space stack.
type names struct {
	addr   netip.Addr
	server *dns.Server
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// namesConfig says what the DNS server answers, and from where.
type namesConfig struct {
	addr     netip.Addr // of the server, inside the stack
	domain   string     // the cluster's
	upstream osdns.Upstream
	cluster  func(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error)
	server   netip.Addr // the cluster's DNS server
	routes   *routes
	log      *slog.Logger
}

// serveNames starts the DNS server. The caller calls stop and then, once the
// stack is closed, wait.
func serveNames(stack *netstack.Stack, cfg namesConfig) (*names, error) {
	server, err := dns.NewServer(dns.Config{
		Domain:   cfg.domain,
		Reverse:  cfg.routes.contains,
		Cluster:  routeAnswers(dns.OverTunnel(cfg.cluster, netip.AddrPortFrom(cfg.server, dnsPort)), cfg.routes),
		Upstream: dns.Upstreams(cfg.upstream.Servers),
		Search:   cfg.upstream.Search,
		Log:      cfg.log,
	})
	if err != nil {
		return nil, err
	}
	addr := netip.AddrPortFrom(cfg.addr, dnsPort)
	packets, err := stack.ListenPacket(addr)
	if err != nil {
		return nil, err
	}
	streams, err := stack.Listen(addr)
	if err != nil {
		_ = packets.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &names{addr: cfg.addr, server: server, cancel: cancel}
	n.wg.Go(func() {
		if err := server.Serve(ctx, packets, streams); err != nil && ctx.Err() == nil {
			cfg.log.Error("the DNS server ended", "err", err)
		}
	})
	return n, nil
}

// stop makes the server end.
func (n *names) stop() { n.cancel() }

// wait returns when the server has ended.
func (n *names) wait() { n.wg.Wait() }

// routeAnswers wraps the cluster's DNS: an address in an answer that lies outside
// the known ranges gets a route of its own before the answer is passed on.
func routeAnswers(next dns.Exchange, routes *routes) dns.Exchange {
	return func(ctx context.Context, q *mdns.Msg) (*mdns.Msg, error) {
		answer, err := next(ctx, q)
		if err != nil {
			return nil, err
		}
		routes.add(ctx, answerAddrs(answer))
		return answer, nil
	}
}

// answerAddrs returns the addresses in an answer.
func answerAddrs(answer *mdns.Msg) []netip.Addr {
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
	return addrs
}
