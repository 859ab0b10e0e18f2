package inject

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// field is a field of an object that a patch of ours may change, by its path.
type field struct {
	path      string
	container *corev1.Container     // nil in a Service
	port      *corev1.ContainerPort // of a container port's name, else nil
	get       func() string
	set       func(string)
}

// podFields lists the fields of a pod's spec: the names of container ports, and
// the ports of probes and lifecycle hooks.
func podFields(spec *corev1.PodSpec) []field {
	var all []field
	for i := range spec.Containers {
		all = append(all, containerFields("containers", &spec.Containers[i])...)
	}
	for i := range spec.InitContainers {
		all = append(all, containerFields("initContainers", &spec.InitContainers[i])...)
	}
	return all
}

func containerFields(list string, c *corev1.Container) []field {
	prefix := fmt.Sprintf("%s[%s].", list, c.Name)
	var all []field
	for i := range c.Ports {
		p := &c.Ports[i]
		all = append(all, field{
			path:      fmt.Sprintf("%sports[%d/%s].name", prefix, p.ContainerPort, workload.ProtocolOf(p.Protocol)),
			container: c, port: p,
			get: func() string { return p.Name },
			set: func(v string) { p.Name = v },
		})
	}
	add := func(what string, get *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction) {
		if get != nil {
			all = append(all, intOrString(prefix+what+".httpGet.port", c, &get.Port))
		}
		if tcp != nil {
			all = append(all, intOrString(prefix+what+".tcpSocket.port", c, &tcp.Port))
		}
	}
	probe := func(what string, p *corev1.Probe) {
		if p != nil {
			add(what, p.HTTPGet, p.TCPSocket)
		}
	}
	probe("readinessProbe", c.ReadinessProbe)
	probe("livenessProbe", c.LivenessProbe)
	probe("startupProbe", c.StartupProbe)
	if c.Lifecycle != nil {
		if h := c.Lifecycle.PostStart; h != nil {
			add("lifecycle.postStart", h.HTTPGet, h.TCPSocket)
		}
		if h := c.Lifecycle.PreStop; h != nil {
			add("lifecycle.preStop", h.HTTPGet, h.TCPSocket)
		}
	}
	return all
}

// serviceFields lists the target ports of a Service.
func serviceFields(svc *corev1.Service) []field {
	var all []field
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		all = append(all, intOrString(fmt.Sprintf("ports[%d/%s].targetPort", p.Port, workload.ProtocolOf(p.Protocol)), nil, &p.TargetPort))
	}
	return all
}

func intOrString(path string, c *corev1.Container, v *intstr.IntOrString) field {
	return field{
		path: path, container: c,
		get: v.String,
		// The name of a port has a letter in it, so the text says which it is.
		set: func(s string) { *v = intstr.Parse(s) },
	}
}

// isOf reports whether an object's port, whose protocol may be empty, is of a protocol.
func isOf(p corev1.Protocol, want api.Protocol) bool {
	return workload.ProtocolOf(p) == objectProtocol(want)
}

// objectProtocol spells a protocol as objects do.
func objectProtocol(p api.Protocol) corev1.Protocol {
	if p == api.UDP {
		return corev1.ProtocolUDP
	}
	return corev1.ProtocolTCP
}

// PortOf is the app's port as agents know it.
func PortOf(p *workload.Port) api.Port {
	port := api.Port{Number: p.Number}
	if p.Protocol == corev1.ProtocolUDP {
		port.Protocol = api.UDP
	}
	return port
}
