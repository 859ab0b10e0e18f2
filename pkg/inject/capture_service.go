package inject

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// serviceRights are the rights that switching a Service takes.
func serviceRights() []access.Right {
	return []access.Right{{Verb: "get", Resource: "services"}, {Verb: "patch", Resource: "services"}}
}

func switchService(obj workload.Object, w *workload.Workload, owner Owner) (workload.Object, error) {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return nil, fmt.Errorf("%s is a %T, not a Service", obj.GetName(), obj)
	}
	return SwitchService(svc, w, owner)
}

// SwitchService makes the Service's ports that lead to the port owner.Port of
// the app lead to the agent instead, as the record of the injected workload says.
// Ports whose name the agent has taken over need no switch and stay. Doing it
// again only adds the owner. It is an error when no port of the Service leads
// there.
func SwitchService(svc *corev1.Service, w *workload.Workload, owner Owner) (*corev1.Service, error) {
	workloadRecord, err := ReadRecord(w.Object)
	if err != nil {
		return nil, err
	}
	if workloadRecord == nil || !Injected(w) {
		return nil, fmt.Errorf("%s has no agent that service/%s could lead to", w, svc.Name)
	}
	i := slices.IndexFunc(workloadRecord.Captures, func(c Capture) bool { return c.Port() == owner.Port && c.Service })
	if i < 0 {
		return nil, fmt.Errorf("the agent of %s does not take port %s from Services", w, owner.Port)
	}
	capture := workloadRecord.Captures[i]
	rec, err := ReadRecord(svc)
	if err != nil {
		return nil, fmt.Errorf("service/%s: %w", svc.Name, err)
	}
	if rec != nil && rec.Workload != w.Ref {
		return nil, &hint.Error{
			Fact: fmt.Sprintf("service/%s leads to the agent of %s, not of %s", svc.Name, rec.Workload, w),
			Mend: fmt.Sprintf("kubectl tele clean -n %s %s", svc.Namespace, rec.Workload),
		}
	}
	if rec == nil {
		rec = &Record{Version: RecordVersion, Workload: w.Ref}
	}
	out := svc.DeepCopy()
	name := portName(&Original(w).Template.Spec, capture.Container, capture.Port())
	ours := strconv.Itoa(int(capture.Listen))
	switched := false
	for i, f := range serviceFields(out) {
		p := &out.Spec.Ports[i]
		previous := p.TargetPort.String()
		if !isOf(p.Protocol, capture.Protocol) {
			continue
		}
		if previous == ours && slices.ContainsFunc(rec.Changes, func(c FieldChange) bool { return c.Path == f.path && c.Ours == ours }) {
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
		rec.Changes = slices.DeleteFunc(rec.Changes, func(c FieldChange) bool { return c.Path == f.path })
		rec.Changes = append(rec.Changes, FieldChange{Path: f.path, Previous: previous, Ours: ours})
	}
	if !switched {
		return nil, fmt.Errorf("service/%s has no port that leads to port %s of %s by its number", svc.Name, capture.Port(), w)
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
			leftovers = append(leftovers, fmt.Sprintf("service/%s: %s", svc.Name, vanished(c)))
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

// CapturesIn returns what the workload's agent captures: Listen, App, Protocol
// and Name alone. A workload without an agent, or nil, has none.
func CapturesIn(w *workload.Workload) []Capture {
	if w == nil {
		return nil
	}
	if c, _ := agentContainer(&w.Template.Spec); c != nil {
		return capturesOf(c)
	}
	return nil
}

// LeadsTo reports whether the Service leads to the agents of the workload that ref
// names: by its record or, when that is lost or cannot be read, by the port that
// the agents listen on. w is the workload, nil when it is no more.
func LeadsTo(svc *corev1.Service, ref workload.Ref, w *workload.Workload) bool {
	if rec, err := ReadRecord(svc); rec != nil && err == nil {
		return rec.Workload == ref
	}
	return w != nil && workload.Selects(svc, w.Template.Labels) && len(guessTargets(svc, CapturesIn(w))) > 0
}

func guessTargets(svc *corev1.Service, known []Capture) []FieldChange {
	var changes []FieldChange
	for i, f := range serviceFields(svc) {
		p := svc.Spec.Ports[i]
		for _, c := range known {
			if isOf(p.Protocol, c.Protocol) && p.TargetPort.Type == intstr.Int && p.TargetPort.IntVal == int32(c.Listen) {
				changes = append(changes, FieldChange{Path: f.path, Previous: strconv.Itoa(int(c.App)), Ours: f.get()})
			}
		}
	}
	return changes
}

// findTarget finds the Service's port by its path, or, when others have
// renumbered the Service's port, by what only we can have put there.
func findTarget(fields []field, c FieldChange) *field {
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

// sharedServices refuses to switch a Service that leads to other pods too: they
// do not listen on the agent's port.
func sharedServices(w *workload.Workload, captures []Capture, facts Facts) []Refusal {
	if !slices.ContainsFunc(captures, func(c Capture) bool { return c.Service }) {
		return nil
	}
	var all []Refusal
	for i := range facts.Services {
		svc := &facts.Services[i]
		if !isSwitched(svc, w, captures) || len(svc.Spec.Selector) == 0 {
			continue
		}
		selector := labels.SelectorFromSet(svc.Spec.Selector)
		if other := otherBackend(w, selector, facts); other != "" {
			all = append(all, Refusal{
				Code: SharedService,
				Fact: fmt.Sprintf("service/%s leads to %s as well, which would get no more traffic if its targetPort were switched", svc.Name, other),
				Mend: "give the container's port a name and let the Service's targetPort use it, or narrow the Service's selector",
			})
		}
	}
	return all
}

// isSwitched reports whether these captures switch the Service's ports.
func isSwitched(svc *corev1.Service, w *workload.Workload, captures []Capture) bool {
	spec := &Original(w).Template.Spec
	svc = OriginalService(svc, CapturesIn(w)...)
	for _, p := range svc.Spec.Ports {
		for _, c := range captures {
			if !c.Service || !isOf(p.Protocol, c.Protocol) {
				continue
			}
			if targetNumber(p) == c.App || p.TargetPort.Type == intstr.String && c.Name == "" && p.TargetPort.StrVal == portName(spec, c.Container, c.Port()) {
				return true
			}
		}
	}
	return false
}

// otherWorkload names another workload than w whose pods the selector selects, "" if
// there is none.
func otherWorkload(w *workload.Workload, selector labels.Selector, facts Facts) string {
	for _, other := range facts.Workloads {
		if other.Ref != w.Ref && selector.Matches(labels.Set(other.Template.Labels)) {
			return other.String()
		}
	}
	return ""
}

// otherBackend names something else than w's pods that the selector selects, ""
// if there is nothing.
func otherBackend(w *workload.Workload, selector labels.Selector, facts Facts) string {
	if other := otherWorkload(w, selector, facts); other != "" {
		return other
	}
	for i := range facts.Pods {
		pod := &facts.Pods[i]
		switch {
		case pod.Status.Phase == corev1.PodSucceeded, pod.Status.Phase == corev1.PodFailed, !selector.Matches(labels.Set(pod.Labels)):
		case pod.DeletionTimestamp != nil: // perhaps one of the workload's own, whose revision went with the sidecar
		case !facts.Own[pod.UID]:
			return "pod/" + pod.Name
		}
	}
	return ""
}
