package inject

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Undo takes our container out of the workload and gives each field that we
// changed its previous value, if it still holds ours. Everything else stays as
// it is. leftovers says, a line each, what could not be restored and why.
//
// A damaged record is no error: what is recognisably ours goes, and leftovers
// says what is not known. The one error is ErrNewer: such a record is left alone.
func Undo(w *workload.Workload) (undone *workload.Workload, leftovers []string, err error) {
	rec, err := ReadRecord(w.Object)
	if errors.Is(err, ErrNewer) {
		return nil, nil, err
	}
	out := w.Copy()
	spec := &out.Template.Spec
	if rec == nil && (err != nil || Injected(w)) {
		rec = inferred(spec)
		leftovers = append(leftovers, unknown(w, err))
	}
	spec.Containers = withoutAgent(spec.Containers)
	spec.InitContainers = withoutAgent(spec.InitContainers)
	if rec != nil {
		leftovers = append(leftovers, restorePod(spec, rec.Changes)...)
	}
	removeRecord(out.Object)
	return out, leftovers, nil
}

// Original returns the workload as it would be without us: Undo, for reading.
func Original(w *workload.Workload) *workload.Workload {
	out, _, err := Undo(w)
	if err != nil {
		return w.Copy()
	}
	return out
}

func withoutAgent(list []corev1.Container) []corev1.Container {
	list = slices.DeleteFunc(list, isAgent)
	if len(list) == 0 {
		return nil
	}
	return list
}

func unknown(w *workload.Workload, err error) string {
	why := "it is missing"
	if err != nil {
		why = err.Error()
	}
	return fmt.Sprintf("the undo record of %s could not be used (%s): port names were restored from the agent's own ports; "+
		"a probe that used such a name keeps the number, and who intercepted is not known", w, why)
}

// inferred makes a record from the agent's container alone: a port of its that
// has a name took it from the app's.
func inferred(spec *corev1.PodSpec) *Record {
	rec := &Record{Version: RecordVersion}
	agent, _ := agentContainer(spec)
	if agent == nil {
		return rec
	}
	for _, c := range capturesOf(agent) {
		if c.Name == "" {
			continue
		}
		for _, f := range podFields(spec) {
			if f.port != nil && f.container != agent && isOf(f.port.Protocol, c.Protocol) &&
				f.port.ContainerPort == int32(c.App) && isAppPortName(c.Name, f.port.Name) {
				rec.Changes = append(rec.Changes, FieldChange{Path: f.path, Previous: c.Name, Ours: f.port.Name})
			}
		}
	}
	return rec
}

// restorePod restores port names first: whether a probe's name means anything
// depends on them.
func restorePod(spec *corev1.PodSpec, changes []FieldChange) (leftovers []string) {
	fields := podFields(spec)
	var later []FieldChange
	for _, c := range changes {
		f := find(fields, c)
		switch {
		case f == nil:
			leftovers = append(leftovers, vanished(c))
		case f.port == nil:
			later = append(later, c)
		default:
			leftovers = append(leftovers, restore(f, c, uniqueName(f, c.Previous))...)
		}
	}
	for _, c := range later {
		f := find(fields, c)
		leftovers = append(leftovers, restore(f, c, hasPort(f.container, c))...)
	}
	return leftovers
}

// find returns the field that a change is about: by its path, or the port that
// still has our name though its number or container was changed by others.
func find(fields []field, c FieldChange) *field {
	for i := range fields {
		if fields[i].path == c.Path {
			return &fields[i]
		}
	}
	for i := range fields {
		if fields[i].port != nil && fields[i].port.Name == c.Ours {
			return &fields[i]
		}
	}
	return nil
}

// restore sets the field unless others have changed it, or problem says why the
// previous value would be wrong now.
func restore(f *field, c FieldChange, problem string) []string {
	switch got := f.get(); {
	case got == c.Previous:
		return nil
	case got != c.Ours:
		return []string{fmt.Sprintf("%s was changed by others to %q and is left so (it was %q, then ours was %q)", c.Path, got, c.Previous, c.Ours)}
	case problem != "":
		return []string{fmt.Sprintf("%s stays %q (it was %q before): %s", c.Path, c.Ours, c.Previous, problem)}
	}
	f.set(c.Previous)
	return nil
}

func vanished(c FieldChange) string {
	return fmt.Sprintf("%s is there no more, so it was not given back its value %q", c.Path, c.Previous)
}

func uniqueName(f *field, name string) string {
	for i := range f.container.Ports {
		if p := &f.container.Ports[i]; p != f.port && p.Name == name {
			return fmt.Sprintf("port %d of container %s has that name now", p.ContainerPort, f.container.Name)
		}
	}
	return ""
}

func hasPort(container *corev1.Container, c FieldChange) string {
	for _, p := range container.Ports {
		if p.Name == c.Previous && fmt.Sprint(p.ContainerPort) == c.Ours {
			return ""
		}
	}
	return fmt.Sprintf("container %s has no port %s of that name any more", container.Name, c.Ours)
}
