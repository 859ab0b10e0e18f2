package connect

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/kubectl-tele/kubectl-tele/pkg/dns/osdns"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
)

// defaultDomain is the cluster's domain where the agent's resolv.conf shows none.
const defaultDomain = "cluster.local"

// clusterDomain returns the cluster's domain from a pod's search list, which
// begins with NAMESPACE.svc.DOMAIN.
func clusterDomain(search []string, namespace string) string {
	for _, s := range search {
		if domain, ok := strings.CutPrefix(s, namespace+".svc."); ok && domain != "" {
			return strings.TrimSuffix(domain, ".")
		}
	}
	return defaultDomain
}

// existingRoutes returns what this machine routes already.
func existingRoutes() ([]netip.Prefix, error) {
	routes, err := tun.ExistingRoutes()
	if err != nil {
		return nil, fmt.Errorf("read this machine's routes: %w", err)
	}
	return routes, nil
}

// upstreamResolvers returns what this machine asks for names without us.
func upstreamResolvers() (osdns.Upstream, error) {
	configurator, err := osdns.New(osdns.Options{})
	if err != nil {
		return osdns.Upstream{}, err
	}
	defer func() { _ = configurator.Close() }()
	upstream, err := configurator.Upstream()
	if err != nil {
		return osdns.Upstream{}, fmt.Errorf("read this machine's resolvers: %w", err)
	}
	return upstream, nil
}

// proxy returns the proxy in front of the API server, "" if there is none.
func proxy() string {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}

// hostAddrs returns the addresses of a host that is given by its URL or name;
// none if it does not resolve, or for "".
func hostAddrs(ctx context.Context, host string) []netip.Addr {
	if u, err := url.Parse(host); err == nil && u.Hostname() != "" {
		host = u.Hostname()
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}
	}
	if host == "" {
		return nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	return addrs
}
