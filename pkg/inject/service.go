package inject

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// SwitchService makes the Service's ports that lead to the port owner.Port of
// the app lead to the agent instead, as the injected Deployment's record says.
// Ports whose name the agent has taken over need no switch and stay. Doing it
// again only adds the owner. It is an error when no port of the Service leads
// there.
func SwitchService(svc *corev1.Service, dep *appsv1.Deployment, owner Owner) (*corev1.Service, error) {
	depRecord, err := ReadRecord(dep)
	if err != nil {
		return nil, err
	}
	if depRecord == nil || !Injected(dep) {
		return nil, fmt.Errorf("deployment/%s has no agent that service/%s could lead to", dep.Name, svc.Name)
	}
	i := slices.IndexFunc(depRecord.Captures, func(c Capture) bool { return c.App == owner.Port && c.Service })
	if i < 0 {
		return nil, fmt.Errorf("the agent of deployment/%s does not take port %d from Services", dep.Name, owner.Port)
	}
	capture := depRecord.Captures[i]
	rec, err := ReadRecord(svc)
	if err != nil {
		return nil, fmt.Errorf("service/%s: %w", svc.Name, err)
	}
	workload := "deployment/" + dep.Name
	if rec != nil && rec.Workload != workload {
		return nil, &Error{
			Fact: fmt.Sprintf("service/%s leads to the agent of %s, not of %s", svc.Name, rec.Workload, workload),
			Mend: fmt.Sprintf("kubectl tele clean -n %s %s", svc.Namespace, rec.Workload),
		}
	}
	if rec == nil {
		rec = &Record{Version: RecordVersion, Workload: workload}
	}
	out := svc.DeepCopy()
	name := portName(&Original(dep).Spec.Template.Spec, capture.Container, capture.App)
	ours := strconv.Itoa(int(capture.Listen))
	switched := false
	for i, f := range serviceFields(out) {
		p := &out.Spec.Ports[i]
		previous := p.TargetPort.String()
		if !isTCP(p.Protocol) {
			continue
		}
		if previous == ours && slices.ContainsFunc(rec.Changes, func(c Change) bool { return c.Path == f.path && c.Ours == ours }) {
			switched = true
			continue
		}
		byName := p.TargetPort.Type == intstr.String && name != "" && p.TargetPort.StrVal == name && capture.Name == ""
		if !byName && targetNumber(*p) != capture.App {
			continue
		}
		if targetNumber(*p) == capture.App {
			previous = strconv.Itoa(int(capture.App))
		}
		f.set(ours)
		switched = true
		rec.Changes = slices.DeleteFunc(rec.Changes, func(c Change) bool { return c.Path == f.path })
		rec.Changes = append(rec.Changes, Change{Path: f.path, Previous: previous, Ours: ours})
	}
	if !switched {
		return nil, fmt.Errorf("service/%s has no port that leads to port %d of %s by its number", svc.Name, capture.App, workload)
	}
	rec.Captures = mergeCaptures(rec.Captures, []Capture{capture})
	rec.Owners = putOwner(rec.Owners, owner)
	return out, rec.write(out)
}

// UndoService is Undo for a Service. known are the captures of the agent it
// leads to, if there is one (see AgentIn): with them a Service whose record is
// damaged or lost is restored too.
func UndoService(svc *corev1.Service, known ...Capture) (undone *corev1.Service, leftovers []string, err error) {
	rec, err := ReadRecord(svc)
	if errors.Is(err, ErrNewer) {
		return nil, nil, err
	}
	out := svc.DeepCopy()
	removeRecord(out)
	fields := serviceFields(out)
	if rec == nil {
		guessed := guessTargets(out, known)
		switch {
		case err != nil && len(guessed) == 0:
			leftovers = append(leftovers, fmt.Sprintf("the undo record of service/%s could not be used (%v): its target ports were left as they are", svc.Name, err))
		case len(guessed) > 0:
			leftovers = append(leftovers, fmt.Sprintf("service/%s has no usable undo record: its target ports were restored as numbers from the agent's captures", svc.Name))
		}
		rec = &Record{Changes: guessed}
	}
	for _, c := range rec.Changes {
		f := findTarget(fields, c)
		if f == nil {
			leftovers = append(leftovers, fmt.Sprintf("service/%s: %s", svc.Name, gone(c)))
			continue
		}
		for _, text := range restore(f, c, "") {
			leftovers = append(leftovers, fmt.Sprintf("service/%s: %s", svc.Name, text))
		}
	}
	return out, leftovers, nil
}

// OriginalService is UndoService, for reading.
func OriginalService(svc *corev1.Service, known ...Capture) *corev1.Service {
	out, _, err := UndoService(svc, known...)
	if err != nil {
		return svc.DeepCopy()
	}
	return out
}

// capturesIn is what the Deployment's agent captures, none without an agent.
func capturesIn(dep *appsv1.Deployment) []Capture {
	if c, _ := agentContainer(&dep.Spec.Template.Spec); c != nil {
		return capturesOf(c)
	}
	return nil
}

func guessTargets(svc *corev1.Service, known []Capture) []Change {
	var changes []Change
	for i, f := range serviceFields(svc) {
		p := svc.Spec.Ports[i]
		for _, c := range known {
			if isTCP(p.Protocol) && p.TargetPort.Type == intstr.Int && p.TargetPort.IntVal == int32(c.Listen) {
				changes = append(changes, Change{Path: f.path, Previous: strconv.Itoa(int(c.App)), Ours: f.get()})
			}
		}
	}
	return changes
}

// findTarget finds the Service's port by its path, or, when others have
// renumbered the Service's port, by what only we can have put there.
func findTarget(fields []field, c Change) *field {
	for i := range fields {
		if fields[i].path == c.Path {
			return &fields[i]
		}
	}
	for i := range fields {
		if fields[i].get() == c.Ours {
			return &fields[i]
		}
	}
	return nil
}
