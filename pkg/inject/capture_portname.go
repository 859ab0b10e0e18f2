package inject

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// takeOver renames the app's port for a capture that takes its name, and makes
// numbers of the names in that container's probes and hooks. A capture that is
// there already may find the port renamed by others since; then it is left.
// reserved are the names that the app's port must not get; its new one is added.
func takeOver(spec *corev1.PodSpec, c Capture, lenient bool, reserved map[string]bool) ([]FieldChange, error) {
	if c.Name == "" {
		return nil, nil
	}
	if portName(spec, c.Container, c.Port()) != c.Name {
		if lenient {
			return nil, nil
		}
		return nil, fmt.Errorf("port %s of container %s is not called %q", c.Port(), c.Container, c.Name)
	}
	renamed := appPortName(c.Name, func(name string) bool { return reserved[name] })
	reserved[renamed] = true
	number := fmt.Sprint(c.App)
	var changes []FieldChange
	for _, f := range podFields(spec) {
		if f.container.Name != c.Container || f.get() != c.Name {
			continue
		}
		change := FieldChange{Path: f.path, Previous: c.Name, Ours: number}
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

// resolvesTo reports whether the endpoints controller finds the port for name.
func resolvesTo(spec *corev1.PodSpec, name string, port api.Port) bool {
	for _, c := range workload.Serving(spec) {
		for _, p := range c.Ports {
			if p.Name == name && isOf(p.Protocol, port.Protocol) {
				return p.ContainerPort == int32(port.Number)
			}
		}
	}
	return false
}

// LostName returns the name of the app's port that the agent took over and that
// others have given back to the app since (with an apply of their manifest, say),
// so that Services lead past the agent; "" when there is none.
func LostName(w *workload.Workload, app api.Port) string {
	spec := &w.Template.Spec
	for _, c := range CapturesIn(w) {
		if c.Port() == app && c.Name != "" && !resolvesTo(spec, c.Name, c.agentPort()) {
			return c.Name
		}
	}
	return ""
}

const maxPortName = 15

// appPortName is what the app's port is called while the agent has its name.
func appPortName(name string, taken func(string) bool) string {
	for n := 1; ; n++ {
		suffix := "-app"
		if n > 1 {
			suffix += strconv.Itoa(n)
		}
		candidate := appPortStem(name, suffix) + suffix
		if !taken(candidate) {
			return candidate
		}
	}
}

func appPortStem(name, suffix string) string {
	if len(name)+len(suffix) > maxPortName {
		name = name[:maxPortName-len(suffix)]
	}
	return strings.TrimRight(name, "-")
}

// isAppPortName reports whether got may be what appPortName made of name.
func isAppPortName(name, got string) bool {
	i := strings.LastIndex(got, "-app")
	if i < 0 {
		return false
	}
	suffix := got[i:]
	if number := suffix[len("-app"):]; number != "" {
		if _, err := strconv.Atoi(number); err != nil {
			return false
		}
	}
	return got[:i] == appPortStem(name, suffix)
}
