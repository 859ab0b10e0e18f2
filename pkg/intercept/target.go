package intercept

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/handler"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// target is the port of a workload that an intercept takes.
type target struct {
	workload.Ref
	port      *workload.Port // number 0 is none: the files alone are wanted
	handler   handler.Handler
	service   string // by which the user named it; "" if it was not by one
	container string // whose environment and files are meant
	files     string // the container whose files the workload's agents are to show; "" is none
	// ports and workloads are what one command takes, this one's included.
	ports     []*workload.Port // of the workload
	workloads []workload.Ref
}

func (t *target) String() string {
	if t.port.Number == 0 {
		return "the files of " + t.Ref.String()
	}
	return fmt.Sprintf("%s port %s", t.Ref, t.port)
}

// app is the port as agents and records know it.
func (t *target) app() agent.Port { return inject.PortOf(t.port) }

// serviceNames are the Services that lead to the port.
func (t *target) serviceNames() []string {
	names := []string{}
	for _, svc := range t.port.Services {
		names = append(names, svc.Service.Name)
	}
	return names
}

// findTargets resolves what the user named: at least one target, in the order of the
// workloads, then of the ports. warnings say what may be other than was meant.
func findTargets(ctx context.Context, c *cluster.Cluster, spec api.InterceptSpec) (all []*target, warnings []string, err error) {
	ctx, cancel := cluster.RequestContext(ctx)
	defer cancel()
	workloads, service, err := c.Kinds().Named(ctx, c.Client(), c.Namespace(), spec.Workload)
	if err != nil {
		return nil, nil, err
	}
	if service != "" {
		if spec.Service != "" && spec.Service != service {
			return nil, nil, &hint.Error{
				Fact: fmt.Sprintf("%s and --service=%s are two Services", spec.Workload, spec.Service),
				Mend: "give the Service once",
			}
		}
		spec.Service = service
		workloads, warnings = withPods(workloads)
	}
	if spec.FilesOnly {
		t, err := filesOf(workloads, spec)
		if err != nil {
			return nil, nil, err
		}
		return []*target{t}, warnings, nil
	}
	if len(spec.Ports) == 0 {
		spec.Ports = []api.PortSpec{{}}
	}
	for _, w := range workloads {
		found, beside, err := portsOf(ctx, c, w, spec)
		if err != nil {
			return nil, nil, err
		}
		all, warnings = append(all, found...), append(warnings, beside...)
	}
	var refs []workload.Ref
	for _, w := range workloads {
		refs = append(refs, w.Ref)
	}
	for n, t := range all {
		t.workloads = refs
		if first := all[0]; spec.Dir != "" && t.Ref == first.Ref {
			t.files = first.container
		}
		if t.handler == "" {
			// One process stands for all workloads behind a Service.
			t.handler = handler.Localhost(all[n%len(spec.Ports)].port.Number)
		}
		if spec.Container == "" && (spec.WithEnv || spec.Dir != "") && t.port.Guessed {
			warnings = append(warnings, fmt.Sprintf("no container of %s declares port %s: environment and files are those of container %s; --container chooses another", t.Ref, t.port, t.container))
		}
	}
	return all, warnings, nil
}

// filesOf is the target of who wants files alone: those of the first of the workloads.
func filesOf(workloads []*workload.Workload, spec api.InterceptSpec) (*target, error) {
	w := workloads[0]
	if _, err := inject.ReadRecord(w.Object); errors.Is(err, inject.ErrNewer) {
		return nil, err
	}
	original := inject.Original(w)
	if spec.Container != "" {
		if err := original.HasContainer(spec.Container); err != nil {
			return nil, err
		}
	}
	container := spec.Container
	if container == "" {
		container = workload.DefaultContainer(workload.TemplatePod(original))
	}
	t := &target{Ref: w.Ref, service: spec.Service, port: &workload.Port{Container: container}, container: container, files: container, workloads: []workload.Ref{w.Ref}}
	t.ports = []*workload.Port{t.port}
	return t, nil
}

// withPods leaves out those of a Service's workloads that are scaled to 0, unless all are.
func withPods(all []*workload.Workload) (those []*workload.Workload, warnings []string) {
	for _, w := range all {
		if w.State.Replicas == 0 {
			warnings = append(warnings, fmt.Sprintf("%s is scaled to 0 and not intercepted: its pods answer for themselves if it is scaled up", w))
		} else {
			those = append(those, w)
		}
	}
	if len(those) == 0 {
		return all, nil
	}
	return those, warnings
}

// portsOf resolves the ports of one workload. A workload that carries an agent is looked
// at as it would be without.
func portsOf(ctx context.Context, c *cluster.Cluster, w *workload.Workload, spec api.InterceptSpec) (all []*target, warnings []string, err error) {
	// Without the record, the agent's own ports would be taken for the app's.
	if _, err := inject.ReadRecord(w.Object); errors.Is(err, inject.ErrNewer) {
		return nil, nil, err
	}
	services, err := workload.Selecting(ctx, c.Client(), c.Namespace(), w.Template.Labels)
	if err != nil {
		return nil, nil, err
	}
	for i := range services {
		services[i] = *inject.OriginalService(&services[i], inject.CapturesIn(w)...)
	}
	original := inject.Original(w)
	if spec.Container != "" {
		if err := original.HasContainer(spec.Container); err != nil {
			return nil, nil, err
		}
	}
	var ports []*workload.Port
	for _, want := range spec.Ports {
		port, err := workload.FindPort(original, services, want.Port, spec.Service)
		if err != nil {
			return nil, nil, err
		}
		if slices.ContainsFunc(ports, func(p *workload.Port) bool { return inject.PortOf(p) == inject.PortOf(port) }) {
			return nil, nil, hint.With(fmt.Errorf("port %s of %s is named twice", port, w), "give each --port once")
		}
		if port.Protocol == corev1.ProtocolUDP {
			if err := datagramsAlone(port, spec); err != nil {
				return nil, nil, err
			}
		}
		ports = append(ports, port)
		container := spec.Container
		if container == "" {
			container = port.Container
		}
		all = append(all, &target{Ref: w.Ref, port: port, handler: handler.Handler(want.Handler), container: container})
	}
	for n, t := range all {
		t.ports = ports
		// What is of both, or may be, is that of TCP, as with kubectl.
		for _, other := range workload.OfUDP(original, services, spec.Ports[n].Port, spec.Service) {
			if !slices.ContainsFunc(ports, func(p *workload.Port) bool { return inject.PortOf(p) == inject.PortOf(other) }) {
				warnings = append(warnings, fmt.Sprintf("port %s of %s goes on to the app, too: --port :%s takes it", other, w, other))
			}
		}
	}
	return all, warnings, nil
}

// datagramsAlone returns an error if a port of UDP is asked for with what only requests have.
func datagramsAlone(port *workload.Port, spec api.InterceptSpec) error {
	for _, no := range []struct {
		asked bool
		what  string
	}{
		{len(spec.Match) > 0, "requests cannot be told apart"},
		{spec.Mirror, "datagrams are not copied"},
		{spec.Record != "", "there are no requests to record"},
		{spec.LogRequests, "there are no requests to log"},
	} {
		if no.asked {
			return hint.With(fmt.Errorf("port %s is of UDP, in which %s", port, no.what), "intercept it whole, with a command of its own")
		}
	}
	return nil
}
