package workload

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// Port is a port of TCP or UDP of a workload's container that Services lead to.
type Port struct {
	Container string          // the container that declares it, else the first one
	Number    uint16          // what the app listens on
	Protocol  corev1.Protocol // ProtocolTCP or ProtocolUDP; never empty
	Name      string          // the container port's name; "" when it has none or is not declared
	Guessed   bool            // no container declares it, and there are several
	Services  []ServicePort
}

// ProtocolOf is what an object means by a port's protocol, which may be empty.
func ProtocolOf(p corev1.Protocol) corev1.Protocol { return cmp.Or(p, corev1.ProtocolTCP) }

// spell returns a port's name or number as FindPort accepts it: NAME, or NAME/udp.
func spell(port string, protocol corev1.Protocol) string {
	if ProtocolOf(protocol) == corev1.ProtocolTCP {
		return port
	}
	return port + "/" + strings.ToLower(string(protocol))
}

// ServicePort is a port of a Service that leads to a Port.
type ServicePort struct {
	Service *corev1.Service
	Port    corev1.ServicePort
	Named   bool // targetPort is a name
}

// String names the Service port as FindPort accepts it.
func (s ServicePort) String() string {
	return s.Service.Name + ":" + spell(cmp.Or(s.Port.Name, strconv.Itoa(int(s.Port.Port))), s.Port.Protocol)
}

// Addresses returns where clients find the port: at the Service's cluster
// addresses, of which a headless Service has none.
func (s ServicePort) Addresses() []netip.AddrPort {
	var all []netip.AddrPort
	for _, ip := range s.Service.Spec.ClusterIPs {
		if addr, err := netip.ParseAddr(ip); err == nil {
			all = append(all, netip.AddrPortFrom(addr, uint16(s.Port.Port)))
		}
	}
	return all
}

// FindPort finds the port that is meant by want: "" (the only one there is), the
// name or number of a Service port or of a container port, or "service:port". A port
// may have its protocol behind it, as in 53/udp; without, what is of TCP and of UDP is
// that of TCP. Only services that select the workload's pods must be given. When
// service is not empty only the Service of that name counts.
//
// The hint of an error says which ports there are.
func FindPort(w *Workload, services []corev1.Service, want, service string) (*Port, error) {
	if name, port, found := strings.Cut(want, ":"); found {
		if service != "" && service != name {
			return nil, &hint.Error{
				Fact: fmt.Sprintf("port %q names another Service than --service=%s", want, service),
				Mend: "give the Service once",
			}
		}
		service, want = name, port
	}
	if service != "" {
		i := slices.IndexFunc(services, func(s corev1.Service) bool { return s.Name == service })
		if i < 0 {
			return nil, noSuchService(w, services, service)
		}
		services = services[i : i+1]
	}
	ports, others := candidates(w, services)
	if len(ports) == 0 {
		return nil, noPorts(w, services, others)
	}
	var found []*Port
	for _, p := range ports {
		if want == "" || p.Matches(want) {
			found = append(found, p)
		}
	}
	if one := onlyTCP(found); one != nil {
		return one, nil
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, &hint.Error{
			Fact: fmt.Sprintf("%s has no port %q that a Service leads to", w, want),
			Mend: "--port is one of " + list(ports),
		}
	}
	if want == "" {
		return nil, &hint.Error{
			Fact: fmt.Sprintf("%s has %d ports that Services lead to", w, len(found)),
			Mend: "choose with --port one of " + list(found),
		}
	}
	return nil, &hint.Error{
		Fact: fmt.Sprintf("port %q of %s is ambiguous", want, w),
		Mend: "choose with --port one of " + list(found),
	}
}

// OfUDP returns the ports of UDP that want, in which there is no protocol, may mean to
// FindPort, which prefers one of TCP.
func OfUDP(w *Workload, services []corev1.Service, want, service string) []*Port {
	if name, port, found := strings.Cut(want, ":"); found {
		service, want = name, port
	}
	if service != "" {
		services = slices.DeleteFunc(slices.Clone(services), func(s corev1.Service) bool { return s.Name != service })
	}
	if strings.Contains(want, "/") {
		return nil
	}
	ports, _ := candidates(w, services)
	return slices.DeleteFunc(ports, func(p *Port) bool { return p.Protocol != corev1.ProtocolUDP || want != "" && !p.Matches(want) })
}

// onlyTCP returns the one of TCP among the ports, nil if there are several or none.
func onlyTCP(ports []*Port) (one *Port) {
	for _, p := range ports {
		switch {
		case p.Protocol != corev1.ProtocolTCP:
		case one != nil:
			return nil
		default:
			one = p
		}
	}
	return one
}

func noSuchService(w *Workload, services []corev1.Service, service string) error {
	names := make([]string, 0, len(services))
	for i := range services {
		names = append(names, services[i].Name)
	}
	mend := "no Service selects its pods"
	if len(names) > 0 {
		mend = "the Services that do: " + strings.Join(names, ", ")
	}
	return &hint.Error{
		Fact: fmt.Sprintf("no Service %q selects the pods of %s", service, w),
		Mend: mend,
	}
}

func noPorts(w *Workload, services []corev1.Service, others []string) error {
	switch {
	case len(services) == 0:
		return &hint.Error{
			Fact: fmt.Sprintf("no Service selects the pods of %s", w),
			Mend: fmt.Sprintf("make one first, as in: kubectl expose %s -n %s --port=80 --target-port=PORT", w, w.Namespace()),
		}
	case len(others) > 0:
		return &hint.Error{
			Fact: fmt.Sprintf("no Service leads to a port of %s that can be intercepted (%s)", w, strings.Join(others, "; ")),
			Mend: "only ports of TCP and UDP that Services lead to can be intercepted",
		}
	}
	return &hint.Error{
		Fact: fmt.Sprintf("the Services of %s have no ports", w),
		Mend: "add a port to a Service that selects its pods",
	}
}

// list names ports for a hint, by Service port, shortest unambiguous form.
func list(ports []*Port) string {
	names := make([]string, 0, len(ports))
	for _, p := range ports {
		names = append(names, fmt.Sprintf("%s (container %s, port %s)", p.Services[0], p.Container, p))
	}
	return strings.Join(names, ", ")
}

// String is the number, or NUMBER/udp.
func (p *Port) String() string { return spell(strconv.Itoa(int(p.Number)), p.Protocol) }

// Matches reports whether the port is one that want may mean to FindPort, except "".
func (p *Port) Matches(want string) bool {
	port, protocol, given := strings.Cut(want, "/")
	if given && !strings.EqualFold(protocol, string(p.Protocol)) {
		return false
	}
	if port == p.Name || port == strconv.Itoa(int(p.Number)) {
		return true
	}
	return slices.ContainsFunc(p.Services, func(s ServicePort) bool {
		return port == s.Port.Name || port == strconv.Itoa(int(s.Port.Port)) || want == s.String()
	})
}

// candidates resolves each port of the Services to the port of a container. others says
// which Service ports lead nowhere or are neither of TCP nor UDP.
func candidates(w *Workload, services []corev1.Service) (ports []*Port, others []string) {
	spec := &w.Template.Spec
	for i := range services {
		svc := &services[i]
		for _, sp := range svc.Spec.Ports {
			entry := ServicePort{Service: svc, Port: sp, Named: sp.TargetPort.Type == intstr.String && sp.TargetPort.StrVal != ""}
			if p := ProtocolOf(sp.Protocol); p != corev1.ProtocolTCP && p != corev1.ProtocolUDP {
				others = append(others, fmt.Sprintf("%s is %s", entry, sp.Protocol))
				continue
			}
			found := resolve(spec, sp)
			if found == nil {
				others = append(others, fmt.Sprintf("%s leads to port %q, which no container has", entry, sp.TargetPort.String()))
				continue
			}
			at := slices.IndexFunc(ports, func(p *Port) bool { return p.Number == found.Number && p.Protocol == found.Protocol })
			if at < 0 {
				ports = append(ports, found)
				at = len(ports) - 1
			}
			ports[at].Services = append(ports[at].Services, entry)
		}
	}
	slices.SortStableFunc(ports, func(a, b *Port) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Protocol, b.Protocol))
	})
	return ports, others
}

// resolve finds the container port as the endpoints controller does: a name is
// looked up in the containers, then in the native sidecars; a number need not be
// declared anywhere. It returns nil for a name that nothing has.
func resolve(spec *corev1.PodSpec, sp corev1.ServicePort) *Port {
	target := sp.TargetPort
	if target.Type == intstr.Int && target.IntVal == 0 || target.Type == intstr.String && target.StrVal == "" {
		target = intstr.FromInt32(sp.Port)
	}
	for _, c := range Serving(spec) {
		for _, p := range c.Ports {
			if ProtocolOf(p.Protocol) != ProtocolOf(sp.Protocol) {
				continue
			}
			if target.Type == intstr.String && p.Name == target.StrVal || target.Type == intstr.Int && p.ContainerPort == target.IntVal {
				return &Port{Container: c.Name, Number: uint16(p.ContainerPort), Protocol: ProtocolOf(sp.Protocol), Name: p.Name}
			}
		}
	}
	if target.Type == intstr.String || target.IntVal < 1 || target.IntVal > 65535 || len(spec.Containers) == 0 {
		return nil
	}
	return &Port{Container: spec.Containers[0].Name, Number: uint16(target.IntVal), Protocol: ProtocolOf(sp.Protocol), Guessed: len(spec.Containers) > 1}
}

// Serving returns the containers that run as long as the pod, in the order in
// which the endpoints controller looks up a port's name. They are part of spec.
func Serving(spec *corev1.PodSpec) []*corev1.Container {
	var all []*corev1.Container
	for i := range spec.Containers {
		all = append(all, &spec.Containers[i])
	}
	for i := range spec.InitContainers {
		if c := &spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			all = append(all, c)
		}
	}
	return all
}
