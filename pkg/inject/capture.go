package inject

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Mode is how Services come to lead to the agent.
type Mode string

// The captures of a sidecar.
const (
	ModeAuto     Mode = ""          // port-name where a Service uses the name, service where it uses the number
	ModePortName Mode = "port-name" // the agent takes over the port's name
	ModeService  Mode = "service"   // the Service's targetPort is switched
)

// Capture is one port of the app whose traffic the agent takes.
type Capture struct {
	Container string       `json:"container"` // of the app
	App       uint16       `json:"app"`       // what the app listens on
	Protocol  api.Protocol `json:"protocol,omitempty"`
	Listen    uint16       `json:"listen"`            // what the agent listens on; 0 lets Sidecar choose
	Name      string       `json:"name,omitempty"`    // the port's name, taken over; "" when it is not
	Service   bool         `json:"service,omitempty"` // SwitchService is needed too
}

// Port is the app's port.
func (c Capture) Port() api.Port { return api.Port{Number: c.App, Protocol: c.Protocol} }

// agentPort is the port that the agent listens on in its place.
func (c Capture) agentPort() api.Port { return api.Port{Number: c.Listen, Protocol: c.Protocol} }

// agent is the capture as the agent knows it.
func (c Capture) agent() api.Capture {
	return api.Capture{Listen: c.Listen, App: c.App, Protocol: c.Protocol}
}

// String says how the port is captured, in a user's words.
func (c Capture) String() string {
	switch {
	case c.Name != "" && c.Service:
		return fmt.Sprintf("%s %s and %s", ModePortName, c.Name, ModeService)
	case c.Name != "":
		return fmt.Sprintf("%s %s", ModePortName, c.Name)
	}
	return string(ModeService)
}

// words are the captures of the port, one by one.
func (c Capture) words() []string { return strings.Split(c.String(), " and ") }

// PlanCapture decides how the port that a container's app listens on is taken
// from the services given; others keep leading to the app. The workload and the
// Services may have been changed by us already.
func PlanCapture(w *workload.Workload, services []corev1.Service, container string, app api.Port, mode Mode) (Capture, error) {
	spec := &Original(w).Template.Spec
	capture := Capture{Container: container, App: app.Number, Protocol: app.Protocol}
	name := portName(spec, container, app)
	takeover := name != "" && nameLeadsTo(spec, name, container, app.Protocol)
	var numeric, named []string
	for i := range services {
		svc := OriginalService(&services[i], CapturesIn(w)...)
		for _, p := range svc.Spec.Ports {
			switch {
			case !isOf(p.Protocol, app.Protocol):
			case targetNumber(p) == app.Number:
				numeric = append(numeric, svc.Name)
			case name != "" && p.TargetPort.Type == intstr.String && p.TargetPort.StrVal == name:
				named = append(named, svc.Name)
			}
		}
	}
	switch {
	case len(numeric)+len(named) == 0:
		return Capture{}, fmt.Errorf("no Service leads to port %s of container %s of %s", app, container, w)
	case mode == ModePortName && len(named) == 0:
		return Capture{}, &hint.Error{
			Fact: fmt.Sprintf("capture %s needs a Service whose targetPort is a name; service/%s leads to the number %d", mode, numeric[0], app.Number),
			Mend: "leave --capture out, or use --capture=service",
		}
	case mode == ModePortName && len(numeric) > 0:
		return Capture{}, &hint.Error{
			Fact: fmt.Sprintf("service/%s leads to the number %d, which capture %s does not take", numeric[0], app.Number, mode),
			Mend: fmt.Sprintf("leave --capture out to take both, or choose the Service: --service=%s", named[0]),
		}
	case mode == ModePortName && !takeover:
		return Capture{}, &hint.Error{
			Fact: fmt.Sprintf("another container of %s has a port %q too, so the name cannot be taken over", w, name),
			Mend: "use --capture=service",
		}
	case mode == ModeService || !takeover:
		capture.Service = true
		return capture, nil
	case mode != ModeAuto && mode != ModePortName:
		return Capture{}, fmt.Errorf("there is no capture %q", mode)
	}
	if len(named) > 0 {
		capture.Name = name
	}
	capture.Service = len(numeric) > 0
	return capture, nil
}

func targetNumber(p corev1.ServicePort) uint16 {
	switch {
	case p.TargetPort.Type == intstr.String && p.TargetPort.StrVal != "":
		return 0
	case p.TargetPort.IntVal != 0:
		return uint16(p.TargetPort.IntVal)
	}
	return uint16(p.Port)
}

// portName is the name of a container's port, "" when it has none.
func portName(spec *corev1.PodSpec, container string, port api.Port) string {
	for _, c := range workload.Serving(spec) {
		if c.Name != container {
			continue
		}
		for _, p := range c.Ports {
			if p.ContainerPort == int32(port.Number) && isOf(p.Protocol, port.Protocol) {
				return p.Name
			}
		}
	}
	return ""
}

// nameLeadsTo reports whether no other container has a port of that name and protocol: it
// would answer to the name once this container's is renamed.
func nameLeadsTo(spec *corev1.PodSpec, name, container string, protocol api.Protocol) bool {
	for _, c := range workload.Serving(spec) {
		for _, p := range c.Ports {
			if p.Name == name && isOf(p.Protocol, protocol) && c.Name != container {
				return false
			}
		}
	}
	return true
}

// mergeCaptures adds new captures to those that are there. A port that is
// captured already keeps what the agent listens on.
func mergeCaptures(have, more []Capture) []Capture {
	all := slices.Clone(have)
	for _, m := range more {
		i := slices.IndexFunc(all, func(c Capture) bool { return c.Port() == m.Port() })
		if i < 0 {
			all = append(all, m)
			continue
		}
		all[i].Name = cmp.Or(all[i].Name, m.Name)
		all[i].Service = all[i].Service || m.Service
	}
	return all
}

// chooseListen gives each capture without one a port that nothing in the pod
// declares, be it of another protocol.
func chooseListen(spec *corev1.PodSpec, control uint16, captures []Capture) error {
	taken := map[uint16]bool{control: true}
	for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for _, c := range list {
			for _, p := range c.Ports {
				taken[uint16(p.ContainerPort)] = true
			}
		}
	}
	for _, c := range captures {
		taken[c.App] = true
	}
	for _, c := range captures {
		if c.Listen == 0 {
			continue
		}
		if taken[c.Listen] {
			return &hint.Error{
				Fact: fmt.Sprintf("port %d, on which the agent should listen, is used in the pod", c.Listen),
				Mend: "choose another",
			}
		}
		taken[c.Listen] = true
	}
	next := uint16(FirstListenPort)
	for i := range captures {
		if captures[i].Listen != 0 {
			continue
		}
		for taken[next] {
			if next == 65535 {
				return fmt.Errorf("no port is free for the agent")
			}
			next++
		}
		captures[i].Listen = next
		taken[next] = true
	}
	return nil
}
