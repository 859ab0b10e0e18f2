package inject

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// Sidecar adds the agent to the Deployment's pods, or adds captures and an owner
// to the agent that is there already (its key, image, place and ports stay). The
// undo record is part of what is returned.
//
// A capture with a Name gives the port's name to the agent; the app's port gets
// another, and probes and hooks of that container that used the name get the
// number, so that they stay with the app. A capture with Service alone only adds
// the agent; SwitchService follows when the rollout is complete.
func Sidecar(dep *appsv1.Deployment, plan Plan) (*appsv1.Deployment, error) {
	if err := refuseAlways(dep); err != nil {
		return nil, err
	}
	rec, err := ReadRecord(dep)
	if err != nil {
		return nil, cleanFirst(dep, err)
	}
	container, index, err := existing(dep, plan.Agent)
	if err != nil {
		return nil, err
	}
	if container != nil && rec == nil {
		return nil, cleanFirst(dep, fmt.Errorf("deployment/%s has an agent but no undo record", dep.Name))
	}
	if container == nil {
		if err := plan.Agent.validate(); err != nil {
			return nil, err
		}
	}
	out, _, err := Undo(dep)
	if err != nil {
		return nil, err
	}
	next := &Record{Version: RecordVersion, Workload: "deployment/" + dep.Name, Container: api.ContainerName}
	if rec != nil {
		next.Owners = rec.Owners
	}
	if container != nil {
		next.Captures = rec.Captures
	}
	spec := &out.Spec.Template.Spec
	before := len(next.Captures)
	next.Captures = mergeCaptures(next.Captures, plan.Captures)
	if len(next.Captures) == 0 {
		return nil, fmt.Errorf("no port of deployment/%s is to be captured", dep.Name)
	}
	control := plan.Agent.controlPort()
	if agent, ok := AgentIn(&dep.Spec.Template.Spec); ok {
		control = agent.ControlPort
	}
	if err := chooseListen(spec, control, next.Captures); err != nil {
		return nil, fmt.Errorf("deployment/%s: %w", dep.Name, err)
	}
	reserved := portNames(spec)
	for i, c := range next.Captures {
		changes, err := takeOver(spec, c, i < before, reserved)
		if err != nil {
			return nil, fmt.Errorf("deployment/%s: %w", dep.Name, err)
		}
		next.Changes = append(next.Changes, changes...)
	}
	native := plan.Native
	if container == nil {
		c := AgentContainer(fit(spec, plan.Agent), next.Captures, 0)
		container, index = &c, -1
	} else {
		_, native = agentContainer(&dep.Spec.Template.Spec)
		container.Args = agentArgs(control, next.Captures, 0)
		container.Ports = agentPorts(next.Captures)
	}
	insert(spec, *container, native, index)
	for _, c := range next.Captures {
		if c.Name != "" && !resolvesTo(spec, c.Name, c.Listen) {
			return nil, fmt.Errorf("deployment/%s: port name %q would not lead to the agent", dep.Name, c.Name)
		}
	}
	next.Image = container.Image
	if plan.Owner.Session != "" {
		next.Owners = putOwner(next.Owners, plan.Owner)
	}
	return out, next.write(out)
}

// Injected tells whether the Deployment's template holds our container.
func Injected(dep *appsv1.Deployment) bool {
	c, _ := agentContainer(&dep.Spec.Template.Spec)
	return c != nil
}

// LostName returns the name of the app's port that the agent took over and that
// others have given back to the app since (with an apply of their manifest, say),
// so that Services lead past the agent; "" when there is none.
func LostName(dep *appsv1.Deployment, app uint16) string {
	spec := &dep.Spec.Template.Spec
	for _, c := range capturesIn(dep) {
		if c.App == app && c.Name != "" && !resolvesTo(spec, c.Name, c.Listen) {
			return c.Name
		}
	}
	return ""
}

func cleanFirst(dep *appsv1.Deployment, err error) error {
	return &Error{
		Fact: err.Error(),
		Mend: fmt.Sprintf("kubectl tele clean -n %s %s removes what can be recognised; then try again", dep.Namespace, dep.Name),
		Err:  err,
	}
}

// existing returns a copy of the agent's container and its index in its list.
func existing(dep *appsv1.Deployment, o Options) (*corev1.Container, int, error) {
	spec := &dep.Spec.Template.Spec
	for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i, c := range list {
			switch {
			case isAgent(c):
				return c.DeepCopy(), i, nil
			case c.Name == api.ContainerName:
				return nil, 0, fmt.Errorf("deployment/%s has a container %q that is not ours (image %s; ours would be %s)", dep.Name, c.Name, c.Image, o.Image)
			}
		}
	}
	return nil, -1, nil
}

// fit adapts the container to the pod it joins: where the whole pod runs as
// root, a container that must not be root needs a user of its own.
func fit(spec *corev1.PodSpec, o Options) Options {
	sc := spec.SecurityContext
	if o.RunAsUser == nil && sc != nil && sc.RunAsUser != nil && *sc.RunAsUser == 0 {
		o.RunAsUser = new(int64(AgentUser))
	}
	return o
}

func insert(spec *corev1.PodSpec, c corev1.Container, native bool, index int) {
	list := &spec.Containers
	if native {
		list = &spec.InitContainers
		c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	}
	if index < 0 || index > len(*list) {
		index = len(*list)
	}
	*list = slices.Insert(*list, index, c)
}

// takeOver renames the app's port for a capture that takes its name, and makes
// numbers of the names in that container's probes and hooks. A capture that is
// there already may find the port renamed by others since; then it is left.
// reserved are the names that the app's port must not get; its new one is added.
func takeOver(spec *corev1.PodSpec, c Capture, lenient bool, reserved map[string]bool) ([]Change, error) {
	if c.Name == "" {
		return nil, nil
	}
	if portName(spec, c.Container, c.App) != c.Name {
		if lenient {
			return nil, nil
		}
		return nil, fmt.Errorf("port %d of container %s is not called %q", c.App, c.Container, c.Name)
	}
	renamed := appPortName(c.Name, func(name string) bool { return reserved[name] })
	reserved[renamed] = true
	number := fmt.Sprint(c.App)
	var changes []Change
	for _, f := range podFields(spec) {
		if f.container.Name != c.Container || f.get() != c.Name {
			continue
		}
		change := Change{Path: f.path, Previous: c.Name, Ours: number}
		if f.port != nil {
			change.Ours = renamed
		}
		f.set(change.Ours)
		changes = append(changes, change)
	}
	return changes, nil
}

// portNames is the names of all ports of the pod.
func portNames(spec *corev1.PodSpec) map[string]bool {
	names := map[string]bool{}
	for _, f := range podFields(spec) {
		if f.port != nil {
			names[f.port.Name] = true
		}
	}
	return names
}

// resolvesTo tells whether the endpoints controller finds number for name.
func resolvesTo(spec *corev1.PodSpec, name string, number uint16) bool {
	for _, c := range serving(spec) {
		for _, p := range c.Ports {
			if p.Name == name && isTCP(p.Protocol) {
				return p.ContainerPort == int32(number)
			}
		}
	}
	return false
}
