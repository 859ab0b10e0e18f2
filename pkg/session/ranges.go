package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// probeServiceIP is in no cluster's Service range, so the API server's refusal
// names the range. 1.1.1.1 is a public resolver's address.
const probeServiceIP = "1.1.1.1"

var validIPs = regexp.MustCompile(`range of valid IPs is ([0-9a-fA-F.:/, ]+)`)

// serviceRanges asks for the Service range without any cluster right: a
// server-side dry run of a Service with an impossible address is refused with
// a message that names the range. Nothing is made. Where that does not work,
// the addresses of the namespace's Services are returned one by one.
func serviceRanges(ctx context.Context, client kubernetes.Interface, namespace string) ([]netip.Prefix, error) {
	probe := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "kubectl-tele-probe-", Namespace: namespace},
		Spec: corev1.ServiceSpec{
			ClusterIP: probeServiceIP,
			Ports:     []corev1.ServicePort{{Port: 443}},
		},
	}
	_, err := client.CoreV1().Services(namespace).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if ranges := parseServiceRanges(err); len(ranges) > 0 {
		return ranges, nil
	}
	if status := apierrors.APIStatus(nil); err != nil && !errors.As(err, &status) {
		return nil, fmt.Errorf("ask for the Service range: %w", err)
	}
	list, err := client.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var ranges []netip.Prefix
	for _, svc := range list.Items {
		for _, ip := range svc.Spec.ClusterIPs {
			if addr, err := netip.ParseAddr(ip); err == nil {
				ranges = append(ranges, netip.PrefixFrom(addr, addr.BitLen()))
			}
		}
	}
	return ranges, nil
}

// parseServiceRanges reads the ranges out of the API server's refusal.
func parseServiceRanges(err error) []netip.Prefix {
	if err == nil {
		return nil
	}
	match := validIPs.FindStringSubmatch(err.Error())
	if match == nil {
		return nil
	}
	var out []netip.Prefix
	for _, word := range regexp.MustCompile(`[0-9a-fA-F.:]+/\d+`).FindAllString(match[1], -1) {
		if p, err := netip.ParsePrefix(word); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// podRanges returns the ranges of the pods: the agent's own network, and one
// of the same size around every other pod that the namespace shows.
func podRanges(ctx context.Context, client kubernetes.Interface, namespace string, info api.Info) ([]netip.Prefix, error) {
	var addrs []netip.Addr
	add := func(ip string) {
		if addr, err := netip.ParseAddr(ip); err == nil {
			addrs = append(addrs, addr)
		}
	}
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, pod := range pods.Items {
		if pod.Spec.HostNetwork {
			continue
		}
		for _, ip := range pod.Status.PodIPs {
			add(ip.IP)
		}
	}
	slices, err := client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, slice := range slices.Items {
		for _, endpoint := range slice.Endpoints {
			if endpoint.TargetRef == nil || endpoint.TargetRef.Kind != "Pod" {
				continue
			}
			for _, ip := range endpoint.Addresses {
				add(ip)
			}
		}
	}
	return widen(append(addrs, info.PodIPs...), info.Routes), nil
}

// Sizes used where the agent's own routes do not tell: the usual share of one
// node.
const (
	defaultPodBits4 = 24
	defaultPodBits6 = 64
)

// widen puts around each address a range of the size of the agent's own
// on-link network, and adds the agent's routes.
func widen(addrs []netip.Addr, routes []netip.Prefix) []netip.Prefix {
	bits4, bits6 := defaultPodBits4, defaultPodBits6
	var out []netip.Prefix
	for _, r := range routes {
		if r.Bits() == 0 || r.IsSingleIP() || r.Addr().IsLinkLocalUnicast() {
			continue
		}
		out = append(out, r.Masked())
		if r.Addr().Is4() {
			bits4 = max(r.Bits(), 16)
		} else {
			bits6 = max(r.Bits(), 48)
		}
	}
	for _, a := range addrs {
		bits := bits4
		if a.Is6() {
			bits = bits6
		}
		if p, err := a.Unmap().Prefix(bits); err == nil {
			out = append(out, p)
		}
	}
	return compact(out)
}

// compact sorts ranges and drops those inside others.
func compact(ranges []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ranges, func(a, b netip.Prefix) int {
		if c := a.Bits() - b.Bits(); c != 0 {
			return c
		}
		return a.Addr().Compare(b.Addr())
	})
	var out []netip.Prefix
	for _, r := range ranges {
		if !slices.ContainsFunc(out, func(have netip.Prefix) bool { return have.Overlaps(r) }) {
			out = append(out, r)
		}
	}
	return out
}

// without removes one address from the ranges by splitting the range it is in.
func without(ranges []netip.Prefix, addr netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range ranges {
		out = append(out, split(r, addr.Unmap())...)
	}
	return out
}

func split(r netip.Prefix, addr netip.Addr) []netip.Prefix {
	if !r.Contains(addr) {
		return []netip.Prefix{r}
	}
	if r.IsSingleIP() {
		return nil
	}
	low := netip.PrefixFrom(r.Addr(), r.Bits()+1).Masked()
	high := netip.PrefixFrom(lastBitSet(r), r.Bits()+1).Masked()
	return append(split(low, addr), split(high, addr)...)
}

// lastBitSet returns r's address with the first bit after its prefix set.
func lastBitSet(r netip.Prefix) netip.Addr {
	b := r.Addr().AsSlice()
	b[r.Bits()/8] |= 0x80 >> (r.Bits() % 8)
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// dropOverlapping separates the ranges that would lie over a route the host
// already has from those that may be taken. A default route is no obstacle.
func dropOverlapping(ranges, existing []netip.Prefix) (free, taken []netip.Prefix) {
	for _, r := range ranges {
		if slices.ContainsFunc(existing, func(e netip.Prefix) bool { return e.Bits() > 0 && e.Overlaps(r) }) {
			taken = append(taken, r)
		} else {
			free = append(free, r)
		}
	}
	return free, taken
}

// serverAddrs resolves the addresses of the API server and of the proxy in
// front of it: they must always stay outside the tunnel.
func serverAddrs(ctx context.Context, hosts ...string) []netip.Addr {
	var out []netip.Addr
	for _, host := range hosts {
		name := host
		if u, err := url.Parse(host); err == nil && u.Hostname() != "" {
			name = u.Hostname()
		}
		if addr, err := netip.ParseAddr(name); err == nil {
			out = append(out, addr)
			continue
		}
		if addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name); err == nil {
			out = append(out, addrs...)
		}
	}
	return out
}
