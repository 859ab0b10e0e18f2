package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// The cluster's addresses. They live in network namespaces, so that two
// clusters on one machine may both have them.
const (
	apiAddress    = "192.0.2.1"
	apiPort       = "6443"
	podsRange     = "10.244.0.0/16"
	servicesRange = "10.96.0.0/16"
	dnsAddress    = "10.96.0.10"
)

// node is one of the two nodes.
type node struct {
	name     string
	suffix   string // of its network namespace
	address  string
	podRange string
}

func nodes() []node {
	return []node{
		{name: "node1", suffix: "", address: "198.51.100.1", podRange: "10.244.1.0/24"},
		{name: "node2", suffix: "-node2", address: "198.51.100.2", podRange: "10.244.2.0/24"},
	}
}

func nodeNamed(name string) (node, error) {
	for _, n := range nodes() {
		if n.name == name {
			return n, nil
		}
	}
	return node{}, fmt.Errorf("node %q: the cluster has node1 and node2", name)
}

// netnsDir is where network namespaces have names, as "ip netns" knows them.
const netnsDir = "/run/netns"

func netnsPath(name string) string { return filepath.Join(netnsDir, name) }

// ipBatch is one "ip -n NETNS -batch -" with these lines.
type ipBatch struct {
	netns string
	lines []string
}

func (b ipBatch) apply(ctx context.Context, r runner) error {
	_, err := r(ctx, strings.Join(b.lines, "\n")+"\n", "ip", "-n", b.netns, "-batch", "-")
	return err
}

// networkPlan joins the two nodes' namespaces. Nothing has a default route but
// node2, whose way out is node1, where unknown addresses are unreachable.
func (o Options) networkPlan() []ipBatch {
	first, second := nodes()[0], nodes()[1]
	one, two := o.netns()+first.suffix, o.netns()+second.suffix
	return []ipBatch{
		{one, []string{
			"link set lo up",
			"addr add " + apiAddress + "/32 dev lo",
			"link add node2 type veth peer name eth0 netns " + two,
			"addr add " + first.address + "/24 dev node2",
			"link set node2 up",
		}},
		{two, []string{
			"link set lo up",
			"addr add " + second.address + "/24 dev eth0",
			"link set eth0 up",
			"route add default via " + first.address,
		}},
		{one, []string{
			"route add " + second.podRange + " via " + second.address,
			// A connection from here to a Service is routed before it is translated.
			"route add " + servicesRange + " dev node2 src " + first.address,
		}},
	}
}

// nodeSysctls make a namespace a node's. The first may be missing where bridges are a module.
const nodeSysctls = `modprobe -q br_netfilter 2>/dev/null
echo 1 2>/dev/null >/proc/sys/net/bridge/bridge-nf-call-iptables
echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
echo 0 >/proc/sys/net/ipv4/conf/default/rp_filter
echo 1 >/proc/sys/net/ipv4/ip_forward
`

func (c *Cluster) makeNetwork(ctx context.Context) error {
	for _, n := range nodes() {
		name := c.opt.netns() + n.suffix
		if err := c.opt.makeNetNS(ctx, c.run, name); err != nil {
			return err
		}
		if _, err := c.run(ctx, nodeSysctls, "nsenter", "--net="+netnsPath(name), "sh"); err != nil {
			return err
		}
	}
	for _, batch := range c.opt.networkPlan() {
		if err := batch.apply(ctx, c.run); err != nil {
			return err
		}
	}
	return nil
}

// netnsDirMark exists, outside of /run, when a cluster made netnsDir, so that the last one removes it.
const netnsDirMark = "made-run-netns"

// makeNetNS makes a network namespace with a name. The first name on a machine
// makes "ip" make netnsDir, a mount of its own.
func (o Options) makeNetNS(ctx context.Context, r runner, name string) error {
	if _, err := os.Stat(netnsDir); errors.Is(err, fs.ErrNotExist) {
		cache, err := cacheDir()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(cache, netnsDirMark), nil, 0o644); err != nil {
			return err
		}
	}
	_, err := r(ctx, "", "ip", "netns", "add", name)
	return err
}

// removeNetnsDir removes netnsDir if it is empty and ours.
func removeNetnsDir(ctx context.Context) error {
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	mark := filepath.Join(cache, netnsDirMark)
	if _, err := os.Stat(mark); err != nil {
		return nil //nolint:nilerr // no mark: not ours
	}
	if entries, err := os.ReadDir(netnsDir); err != nil || len(entries) > 0 {
		return err
	}
	if _, err := run(ctx, "", "umount", netnsDir); err != nil {
		return nil //nolint:nilerr // somebody has just made a namespace there
	}
	_ = os.Remove(netnsDir)
	return os.Remove(mark)
}

// netnsNames lists the network namespaces there are whose names are this cluster's.
func (o Options) netnsNames() []string {
	entries, err := os.ReadDir(netnsDir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		ours := strings.HasPrefix(name, o.laptopPrefix())
		for _, n := range nodes() {
			ours = ours || name == o.netns()+n.suffix
		}
		if ours {
			names = append(names, name)
		}
	}
	return names
}

// laptopSubnet is the i-th laptop's network: the cluster has the first
// address, the laptop the second.
func laptopSubnet(i int) (clusterSide, laptopSide netip.Addr, err error) {
	if i < 0 || i >= maxLaptops {
		return netip.Addr{}, netip.Addr{}, fmt.Errorf("laptop %d: at most %d at once", i, maxLaptops)
	}
	base := byte(4 * i)
	return netip.AddrFrom4([4]byte{203, 0, 113, base + 1}), netip.AddrFrom4([4]byte{203, 0, 113, base + 2}), nil
}

// maxLaptops is how many /30 fit into 203.0.113.0/24.
const maxLaptops = 64

// laptopPlan plugs a laptop in. Its only route leads to the API server.
func (o Options) laptopPlan(netns, link string, i int) ([]ipBatch, error) {
	there, here, err := laptopSubnet(i)
	if err != nil {
		return nil, err
	}
	return []ipBatch{
		{o.netns(), []string{
			"link add " + link + " type veth peer name eth0 netns " + netns,
			"addr add " + there.String() + "/30 dev " + link,
			"link set " + link + " up",
		}},
		{netns, []string{
			"link set lo up",
			"addr add " + resolverAddress + "/32 dev lo",
			"addr add " + here.String() + "/30 dev eth0",
			"link set eth0 up",
			"route add " + apiAddress + "/32 via " + there.String(),
		}},
	}, nil
}
