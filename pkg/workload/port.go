package workload

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Port is a TCP port of a workload's container that Services lead to.
type Port struct {
	Container string // the container that declares it, else the first one
	Number    uint16 // what the app listens on
	Name      string // the container port's name; "" when it has none or is not declared
	Services  []ServicePort
}

// ServicePort is a port of a Service that leads to a Port.
type ServicePort struct {
	Service *corev1.Service
	Port    corev1.ServicePort
	Named   bool // targetPort is a name
}

// String names the Service port as FindPort accepts it.
func (s ServicePort) String() string {
	if s.Port.Name != "" {
		return s.Service.Name + ":" + s.Port.Name
	}
	return s.Service.Name + ":" + strconv.Itoa(int(s.Port.Port))
}

// FindPort finds the port that is meant by want: "" (the only one there is), the
// name or number of a Service port or of a container port, or "service:port".
// Only services that select the Deployment's pods must be given. When service is
// not empty only the Service of that name counts.
//
// The hint of an error says which ports there are.
func FindPort(dep *appsv1.Deployment, services []corev1.Service, want, service string) (*Port, error) {
	if name, port, found := strings.Cut(want, ":"); found {
		if service != "" && service != name {
			return nil, &Error{
				Fact: fmt.Sprintf("port %q names another Service than --service=%s", want, service),
				Mend: "give the Service once",
			}
		}
		service, want = name, port
	}
	if service != "" {
		i := slices.IndexFunc(services, func(s corev1.Service) bool { return s.Name == service })
		if i < 0 {
			return nil, noSuchService(dep, services, service)
		}
		services = services[i : i+1]
	}
	ports, others := candidates(dep, services)
	if len(ports) == 0 {
		return nil, noPorts(dep, services, others)
	}
	var found []*Port
	for _, p := range ports {
		if want == "" || p.matches(want) {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, &Error{
			Fact: fmt.Sprintf("deployment/%s has no port %q that a Service leads to", dep.Name, want),
			Mend: "--port is one of " + list(ports),
		}
	}
	if want == "" {
		return nil, &Error{
			Fact: fmt.Sprintf("deployment/%s has %d ports that Services lead to", dep.Name, len(found)),
			Mend: "choose with --port one of " + list(found),
		}
	}
	return nil, &Error{
		Fact: fmt.Sprintf("port %q of deployment/%s is ambiguous", want, dep.Name),
		Mend: "choose with --port one of " + list(found),
	}
}

func noSuchService(dep *appsv1.Deployment, services []corev1.Service, service string) error {
	names := make([]string, 0, len(services))
	for i := range services {
		names = append(names, services[i].Name)
	}
	mend := "no Service selects its pods"
	if len(names) > 0 {
		mend = "the Services that do: " + strings.Join(names, ", ")
	}
	return &Error{
		Fact: fmt.Sprintf("no Service %q selects the pods of deployment/%s", service, dep.Name),
		Mend: mend,
	}
}

func noPorts(dep *appsv1.Deployment, services []corev1.Service, others []string) error {
	switch {
	case len(services) == 0:
		return &Error{
			Fact: fmt.Sprintf("no Service selects the pods of deployment/%s", dep.Name),
			Mend: fmt.Sprintf("make one first, as in: kubectl expose deployment/%s -n %s --port=80 --target-port=PORT", dep.Name, dep.Namespace),
		}
	case len(others) > 0:
		return &Error{
			Fact: fmt.Sprintf("no Service leads to a TCP port of deployment/%s (%s)", dep.Name, strings.Join(others, "; ")),
			Mend: "only TCP ports that Services lead to can be intercepted",
		}
	}
	return &Error{
		Fact: fmt.Sprintf("the Services of deployment/%s have no ports", dep.Name),
		Mend: "add a port to a Service that selects its pods",
	}
}

// list names ports for a hint, by Service port, shortest unambiguous form.
func list(ports []*Port) string {
	names := make([]string, 0, len(ports))
	for _, p := range ports {
		names = append(names, fmt.Sprintf("%s (container %s, port %d)", p.Services[0], p.Container, p.Number))
	}
	return strings.Join(names, ", ")
}

func (p *Port) matches(want string) bool {
	if want == p.Name || want == strconv.Itoa(int(p.Number)) {
		return true
	}
	return slices.ContainsFunc(p.Services, func(s ServicePort) bool {
		return want == s.Port.Name || want == strconv.Itoa(int(s.Port.Port))
	})
}

// candidates resolves each TCP port of the Services to the port of a container.
// others says which Service ports lead nowhere or are not TCP.
func candidates(dep *appsv1.Deployment, services []corev1.Service) (ports []*Port, others []string) {
	spec := &dep.Spec.Template.Spec
	for i := range services {
		svc := &services[i]
		for _, sp := range svc.Spec.Ports {
			entry := ServicePort{Service: svc, Port: sp, Named: sp.TargetPort.Type == intstr.String && sp.TargetPort.StrVal != ""}
			if sp.Protocol != "" && sp.Protocol != corev1.ProtocolTCP {
				others = append(others, fmt.Sprintf("%s is %s", entry, sp.Protocol))
				continue
			}
			container, number, name, ok := resolve(spec, sp)
			if !ok {
				others = append(others, fmt.Sprintf("%s leads to port %q, which no container has", entry, sp.TargetPort.String()))
				continue
			}
			at := slices.IndexFunc(ports, func(p *Port) bool { return p.Number == number })
			if at < 0 {
				ports = append(ports, &Port{Container: container, Number: number, Name: name})
				at = len(ports) - 1
			}
			ports[at].Services = append(ports[at].Services, entry)
		}
	}
	slices.SortStableFunc(ports, func(a, b *Port) int { return cmp.Compare(a.Number, b.Number) })
	return ports, others
}

// resolve finds the container port as the endpoints controller does: a name is
// looked up in the containers, then in the native sidecars; a number need not be
// declared anywhere.
func resolve(spec *corev1.PodSpec, sp corev1.ServicePort) (container string, number uint16, name string, ok bool) {
	target := sp.TargetPort
	if target.Type == intstr.Int && target.IntVal == 0 || target.Type == intstr.String && target.StrVal == "" {
		target = intstr.FromInt32(sp.Port)
	}
	for _, c := range serving(spec) {
		for _, p := range c.Ports {
			if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
				continue
			}
			if target.Type == intstr.String && p.Name == target.StrVal || target.Type == intstr.Int && p.ContainerPort == target.IntVal {
				return c.Name, uint16(p.ContainerPort), p.Name, true
			}
		}
	}
	if target.Type == intstr.String || target.IntVal < 1 || target.IntVal > 65535 || len(spec.Containers) == 0 {
		return "", 0, "", false
	}
	return spec.Containers[0].Name, uint16(target.IntVal), "", true
}

// serving is the containers that run as long as the pod, in the order in which
// port names are looked up.
func serving(spec *corev1.PodSpec) []corev1.Container {
	all := slices.Clone(spec.Containers)
	for _, c := range spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			all = append(all, c)
		}
	}
	return all
}
