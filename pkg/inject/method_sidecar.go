package inject

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Sidecar is the Method that adds the agent to the workload's pod template. It
// takes over the port's name, or switches the Services that lead to its number.
type Sidecar struct{}

// Plan plans one rolling update, or none where an agent is there already.
func (Sidecar) Plan(ctx context.Context, c Cluster, r Request) (*Plan, error) {
	plan := &Plan{Target: r.Target.Ref, Method: "sidecar", Rights: sidecarRights(r.Target.Kind.Resource())}
	if refusal := never(r.Target); refusal != nil {
		plan.Refusals = []Refusal{*refusal}
		return plan, nil
	}
	// The names and numbers of ports mean nothing here without the record.
	if _, err := ReadRecord(r.Target.Object); err != nil {
		return nil, cleanFirst(r.Target, err)
	}
	captures, err := planCaptures(r)
	if refusal := refusalOf(Uncapturable, err); refusal != nil {
		plan.Refusals = []Refusal{*refusal}
		return plan, nil
	}
	if err != nil {
		return nil, err
	}
	var capture Capture // of the request's port
	for i, c := range captures {
		if i == 0 {
			capture, plan.Captures = c, c.words()
		} else {
			plan.Along = append(plan.Along, c.words()...)
		}
	}
	spec := SidecarSpec{Agent: r.Agent, Native: NativeSidecars(serverVersion(ctx, c.Client)), Captures: captures, Owner: r.Owner}
	if r.Files != "" {
		spec.Files = workload.FilesOf(&Original(r.Target).Template.Spec, r.Files)
		if f := spec.Files; f != nil {
			f.Write = r.Write
			if len(f.Mounts) == 0 && f.Account == "" {
				return nil, &hint.Error{
					Fact: fmt.Sprintf("container %s of %s has no volumes to show", r.Files, r.Target),
					Mend: "name another container, or want no files",
				}
			}
		}
	}
	changed, err := AddSidecar(r.Target, spec)
	if err != nil {
		return nil, err
	}
	facts, err := gather(ctx, c.Client, c.Kinds, r.Target, r.services())
	if err != nil {
		return nil, err
	}
	plan.Refusals = refusals(r.Target, changed, spec.Captures, facts)
	if Restarts(r.Target, changed) {
		plan.Restarts = r.Target.State.Replicas
		plan.Warnings = sidecarWarnings(r, capture, facts)
		plan.Warnings = append(plan.Warnings, fileWarnings(r.Target, spec.Files)...)
		if len(plan.Refusals) == 0 || onlyRestarts(plan.Refusals) {
			spec.Agent, err = admitted(ctx, c, r.Target, spec)
			if refusal := refusalOf(NotAdmitted, err); refusal != nil {
				plan.Refusals = append([]Refusal{*refusal}, plan.Refusals...)
			} else if err != nil {
				return nil, err
			}
		}
	} else {
		plan.Joins = true
	}
	others := elsewhere(r, facts)
	plan.Shared = len(others) > 0
	plan.Warnings = append(plan.Warnings, others...)
	plan.Arrivals = []Change{arrival(c, r.Target, spec)}
	if capture.Service {
		plan.Rights = append(plan.Rights, serviceRights()...)
		plan.Switches = switches(c, r, takesName(changed, capture))
	}
	return plan, nil
}

// planCaptures plans the capture of the request's port, which is the first, and of those
// that are captured along with it.
func planCaptures(r Request) ([]Capture, error) {
	if r.Port.Number == 0 {
		return nil, nil
	}
	ports := []*workload.Port{r.Port}
	for _, p := range r.Ports {
		if PortOf(p) != PortOf(r.Port) {
			ports = append(ports, p)
		}
	}
	var all []Capture
	for _, p := range ports {
		c, err := PlanCapture(r.Target, servicesOf(p), p.Container, PortOf(p), r.Mode)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// elsewhere says which Services of the port lead to pods of others too, whose share of
// the traffic is not taken.
func elsewhere(r Request, facts Facts) (lines []string) {
	facts.Workloads = slices.DeleteFunc(slices.Clone(facts.Workloads), func(w *workload.Workload) bool { return slices.Contains(r.Workloads, w.Ref) })
	for _, svc := range r.services() {
		if len(svc.Spec.Selector) == 0 {
			continue
		}
		if other := otherWorkload(r.Target, labels.SelectorFromSet(svc.Spec.Selector), facts); other != "" {
			lines = append(lines, fmt.Sprintf("service/%s leads to %s as well, whose share of the traffic goes on to it; kubectl tele intercept svc/%s takes all", svc.Name, other, svc.Name))
		}
	}
	return lines
}

// serverVersion asks the API server for its version. It returns nil if the server
// does not tell: it then gets what works everywhere.
func serverVersion(ctx context.Context, client kubernetes.Interface) *version.Info {
	server := client.Discovery().RESTClient()
	if server == nil { // a fake
		info, _ := client.Discovery().ServerVersion()
		return info
	}
	ctx, cancel := requestContext(ctx)
	defer cancel()
	var info version.Info
	body, err := server.Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil || json.Unmarshal(body, &info) != nil {
		return nil
	}
	return &info
}

// takesName reports whether the agent of the changed workload has the captured
// port's name, for this capture or for one that was there before.
func takesName(changed *workload.Workload, capture Capture) bool {
	return slices.ContainsFunc(CapturesIn(changed), func(c Capture) bool { return c.Port() == capture.Port() && c.Name != "" })
}

// sidecarRights are the rights to change a workload of this kind and to remove
// what the change leaves.
func sidecarRights(r workload.Resource) []access.Right {
	rights := []access.Right{
		{Verb: "get", Group: r.Group, Resource: r.Plural},
		{Verb: "watch", Group: r.Group, Resource: r.Plural},
		{Verb: "patch", Group: r.Group, Resource: r.Plural},
	}
	if r.Stalls {
		rights = append(rights, access.Right{Verb: "delete", Resource: "pods"})
	}
	if r.Revisions != "" {
		rights = append(rights,
			access.Right{Verb: "list", Group: r.Group, Resource: r.Revisions},
			access.Right{Verb: "delete", Group: r.Group, Resource: r.Revisions})
	}
	return rights
}

// sidecarWarnings says what else the rolling update touches.
func sidecarWarnings(r Request, capture Capture, facts Facts) []string {
	var lines, names []string
	for _, svc := range r.services() {
		names = append(names, svc.Name)
	}
	if capture.Name != "" {
		lines = append(lines, facts.uses(r.Target, capture, names)...)
	}
	if kind := r.Target.Kind.Resource(); kind.Revisions == "" {
		lines = append(lines, fmt.Sprintf("the %s's history keeps a revision with the agent: a rollout undo to it would bring one back, which passes everything on, and kubectl tele clean takes it out", kind.Title))
	}
	lines = append(lines, headless(r.services(), facts.Selecting)...)
	return append(lines, managers(r.Target)...)
}

func onlyRestarts(refusals []Refusal) bool {
	return !slices.ContainsFunc(refusals, func(r Refusal) bool { return !r.Restart })
}

// admitted asks the API server whether it would admit the pods, and returns the
// options with a CPU limit if it demands one.
func admitted(ctx context.Context, c Cluster, w *workload.Workload, spec SidecarSpec) (Options, error) {
	ask := func() error {
		changed, err := AddSidecar(w, spec)
		if err != nil {
			return err
		}
		_, err = DryRun(ctx, c.Client, c.Namespace, *changed.Template)
		return err
	}
	err := ask()
	if NeedsCPULimit(err) {
		resources := DefaultResources()
		if spec.Agent.Resources != nil {
			resources = *spec.Agent.Resources
		}
		limited := WithCPULimit(resources, resource.MustParse("1"))
		spec.Agent.Resources = &limited
		err = ask()
	}
	return spec.Agent, err
}

// arrival is the change of the workload.
func arrival(c Cluster, w *workload.Workload, spec SidecarSpec) Change {
	return Change{
		Ref: w.Ref, kind: w.Kind, store: w.Kind.Store(c.Client, c.Namespace),
		update: func(_ context.Context, now workload.Object) (workload.Object, error) {
			changed, err := AddSidecar(w.Kind.View(now), spec)
			if err != nil {
				return nil, err
			}
			return changed.Object, nil
		},
	}
}

// switches are the changes of the Services that lead to the captured port by its
// number, or by its name if the agent does not have that.
func switches(c Cluster, r Request, named bool) []Change {
	var all []Change
	store := workload.Services(c.Client, c.Namespace)
	stay := "connections that clients hold open stay with the app until they close them"
	if PortOf(r.Port).Protocol == api.UDP {
		stay = "what a client goes on sending from one port of its own stays with the app until it pauses"
	}
	for _, svc := range r.Port.Services {
		if svc.Named && named {
			continue
		}
		ref := workload.Ref{Kind: "service", Name: svc.Service.Name}
		if n := slices.IndexFunc(all, func(have Change) bool { return have.Ref == ref }); n >= 0 {
			all[n].Addresses = append(all[n].Addresses, svc.Addresses()...)
			continue
		}
		all = append(all, Change{
			Ref: ref, store: store, Addresses: svc.Addresses(),
			Done: fmt.Sprintf("service/%s leads to the agents; %s", svc.Service.Name, stay),
			// What the agent listens on is known once the workload is changed.
			update: func(ctx context.Context, now workload.Object) (workload.Object, error) {
				w, err := c.Kinds.Get(ctx, c.Client, c.Namespace, r.Target.Ref)
				if err != nil {
					return nil, err
				}
				return switchService(now, w, r.Owner)
			},
		})
	}
	return all
}
