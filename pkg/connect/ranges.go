package connect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// probeServiceIP is in no cluster's Service range, so the API server's refusal
// names the range. 1.1.1.1 is a public resolver's address.
const probeServiceIP = "1.1.1.1"

var validIPs = regexp.MustCompile(`range of valid IPs is ([0-9a-fA-F.:/, ]+)`)

// serviceRanges returns the ranges of Services. It needs no right in the cluster:
// a server-side dry run of a Service with an impossible address is refused with a
// message that names the range, and nothing is made. Where that does not work,
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

// parseServiceRanges returns the ranges that the API server's refusal names.
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
func podRanges(ctx context.Context, client kubernetes.Interface, namespace string, info agent.Info) ([]netip.Prefix, error) {
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

// The sizes of a pod network where the agent's own routes show none: the usual
// share of one node.
const (
	defaultPodBits4 = 24
	defaultPodBits6 = 64
)

// widen returns the agent's routes, and around each address a range of the size
// of the agent's own on-link network.
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

// clusterRanges is what of the cluster is routed into the tunnel. skipped are the
// ranges that this machine routes elsewhere.
type clusterRanges struct {
	services, pods, skipped []netip.Prefix
}

// chooseRanges turns what the cluster says into ranges that take nothing away
// from the laptop: nothing that lies over an existing route, and none of the
// addresses to avoid.
func chooseRanges(services, pods, existing []netip.Prefix, avoid []netip.Addr) (clusterRanges, error) {
	services, pods = compact(services), compact(pods)
	for _, addr := range avoid {
		services, pods = without(services, addr), without(pods, addr)
	}
	var out clusterRanges
	var taken []netip.Prefix
	out.services, out.skipped = dropOverlapping(services, existing)
	out.pods, taken = dropOverlapping(pods, existing)
	out.skipped = append(out.skipped, taken...)
	if len(out.services) == 0 && len(out.pods) == 0 {
		return out, hint.With(fmt.Errorf("this machine already routes all of the cluster's addresses %v elsewhere", out.skipped),
			"leave the VPN or network that holds them, and connect again")
	}
	return out, nil
}
