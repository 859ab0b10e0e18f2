package inject

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/version"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// SidecarSpec says what AddSidecar shall do.
type SidecarSpec struct {
	Agent    Options
	Native   bool // a native sidecar: see NativeSidecars
	Captures []Capture
	Files    *workload.Files // what the agent shows; nil adds nothing
	Owner    Owner
}

// AddSidecar adds the agent to the workload's pods, or adds captures, files and an
// owner to the agent that is there already, whose key, image, place and ports
// stay. The undo record is part of what is returned.
//
// A capture with a Name gives the port's name to the agent; the app's port gets
// another, and probes and hooks of that container that used the name get the
// number, so that they stay with the app. A capture with Service alone only adds
// the agent; SwitchService follows when the rollout is complete.
func AddSidecar(w *workload.Workload, spec SidecarSpec) (*workload.Workload, error) {
	if err := refuseAlways(w); err != nil {
		return nil, err
	}
	rec, err := ReadRecord(w.Object)
	if err != nil {
		return nil, cleanFirst(w, err)
	}
	container, index, err := existing(w, spec.Agent)
	if err != nil {
		return nil, err
	}
	if container != nil && rec == nil {
		return nil, cleanFirst(w, fmt.Errorf("%s has an agent but no undo record", w))
	}
	if container == nil {
		if err := spec.Agent.validate(); err != nil {
			return nil, err
		}
	}
	out, _, err := Undo(w)
	if err != nil {
		return nil, err
	}
	next := &Record{Version: RecordVersion, Workload: w.Ref, Container: api.ContainerName}
	if rec != nil {
		next.Owners = rec.Owners
	}
	if container != nil {
		next.Captures = rec.Captures
	}
	pod := &out.Template.Spec
	before := len(next.Captures)
	next.Captures = mergeCaptures(next.Captures, spec.Captures)
	if container != nil && container.Image != spec.Agent.Image {
		for _, c := range next.Captures[before:] {
			if c.Protocol == api.UDP { // an older one might not start with what it does not know
				return nil, &hint.Error{
					Fact: fmt.Sprintf("the agent of %s, of image %s, may not know ports of UDP", w, container.Image),
					Mend: "`kubectl tele list -o wide` shows who brought it; it is replaced when all have left",
				}
			}
		}
	}
	if len(next.Captures) == 0 && spec.Files == nil {
		return nil, fmt.Errorf("no port of %s is to be captured, and no files are to be shown", w)
	}
	control := spec.Agent.controlPort()
	if agent, ok := AgentIn(&w.Template.Spec); ok {
		control = agent.ControlPort
	}
	if err := chooseListen(pod, control, next.Captures); err != nil {
		return nil, fmt.Errorf("%s: %w", w, err)
	}
	reserved := portNames(pod)
	for i, c := range next.Captures {
		changes, err := takeOver(pod, c, i < before, reserved)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w, err)
		}
		next.Changes = append(next.Changes, changes...)
	}
	native := spec.Native
	if container == nil {
		c := AgentContainer(fit(pod, spec.Agent), next.Captures, 0)
		container, index = &c, -1
	} else {
		_, native = agentContainer(&w.Template.Spec)
		container.Args = append(agentArgs(control, next.Captures, 0), volumeArgs(container)...)
		container.Ports = agentPorts(next.Captures)
		if before == 0 && container.StartupProbe != nil && container.StartupProbe.Exec != nil {
			container.StartupProbe.Exec.Command = checkCommand(strconv.Itoa(int(control)), next.Captures)
		}
	}
	if err := showFiles(w, container, spec.Files, spec.Agent.Image); err != nil {
		return nil, err
	}
	insert(pod, *container, native, index)
	for _, c := range next.Captures {
		if c.Name != "" && !resolvesTo(pod, c.Name, c.agentPort()) {
			return nil, fmt.Errorf("%s: port name %q would not lead to the agent", w, c.Name)
		}
	}
	next.Image = container.Image
	if spec.Owner.Session != "" {
		next.Owners = putOwner(next.Owners, spec.Owner)
	}
	return out, next.write(out.Object)
}

// Injected reports whether the workload's template holds our container.
func Injected(w *workload.Workload) bool {
	c, _ := agentContainer(&w.Template.Spec)
	return c != nil
}

// cleanFirst explains why a workload with a record that cannot be used gets no
// agent.
func cleanFirst(w *workload.Workload, err error) error {
	if errors.Is(err, ErrNewer) {
		return err
	}
	return &hint.Error{
		Fact: err.Error(),
		Mend: fmt.Sprintf("kubectl tele clean -n %s %s removes what can be recognised; then try again", w.Namespace(), w),
		Err:  err,
	}
}

// existing returns a copy of the agent's container and its index in its list.
func existing(w *workload.Workload, o Options) (*corev1.Container, int, error) {
	spec := &w.Template.Spec
	for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i, c := range list {
			switch {
			case isAgent(c):
				return c.DeepCopy(), i, nil
			case c.Name == api.ContainerName:
				return nil, 0, fmt.Errorf("%s has a container %q that is not ours (image %s; ours would be %s)", w, c.Name, c.Image, o.Image)
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

// NativeSidecars reports whether the server's Services resolve the port names of
// native sidecars: from 1.32.
func NativeSidecars(v *version.Info) bool {
	if v == nil {
		return false
	}
	digits := func(s string) int {
		end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if end >= 0 {
			s = s[:end] // some clouds say 32+
		}
		n, _ := strconv.Atoi(s)
		return n
	}
	major, minor := digits(v.Major), digits(v.Minor)
	return major > 1 || major == 1 && minor >= 32
}
