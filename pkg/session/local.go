package session

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/dns/osdns"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
)

// defaultDomain is used when the agent's resolv.conf does not tell another.
const defaultDomain = "cluster.local"

// clusterDomain reads the cluster's domain out of a pod's search list, which
// begins with NAMESPACE.svc.DOMAIN.
func clusterDomain(search []string, namespace string) string {
	for _, s := range search {
		if domain, ok := strings.CutPrefix(s, namespace+".svc."); ok && domain != "" {
			return strings.TrimSuffix(domain, ".")
		}
	}
	return defaultDomain
}

func existingRoutes() ([]netip.Prefix, error) {
	routes, err := tun.ExistingRoutes()
	if err != nil {
		return nil, fmt.Errorf("read this machine's routes: %w", err)
	}
	return routes, nil
}

// upstreams are the resolvers this machine had before connect.
type upstreams struct {
	servers []netip.AddrPort
	search  []string
}

func upstreamResolvers() (upstreams, error) {
	configurator, err := osdns.New(osdns.Options{})
	if err != nil {
		return upstreams{}, err
	}
	defer func() { _ = configurator.Close() }()
	before, err := configurator.Upstream()
	if err != nil {
		return upstreams{}, fmt.Errorf("read this machine's resolvers: %w", err)
	}
	return upstreams{servers: before.Servers, search: before.Search}, nil
}

// proxy is the proxy in front of the API server, "" if there is none.
func (c Config) proxy() string {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}

// newKey makes the key of one agent.
func newKey() ([]byte, error) {
	key := make([]byte, api.KeyBytes)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make the agent's key: %w", err)
	}
	return key, nil
}
