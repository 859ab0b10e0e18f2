package inject

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Request is what an intercept wants of a method.
type Request struct {
	Target *workload.Workload // as it is now, perhaps with an agent already
	Port   *workload.Port     // number 0 is none: the files alone are wanted
	// Ports and Workloads are all that is intercepted along with it, itself included.
	Ports     []*workload.Port // of the target; they are captured at once
	Workloads []workload.Ref
	Agent     Options
	Files     string // the container whose files the agent is to show; "" is none
	Write     bool   // the files are to be changed, too
	Owner     Owner
	Mode      Mode
}

// services returns the Services that lead to the request's port, each once.
func (r Request) services() []corev1.Service { return servicesOf(r.Port) }

func servicesOf(p *workload.Port) []corev1.Service {
	var all []corev1.Service
	for _, s := range p.Services {
		if !slices.ContainsFunc(all, func(have corev1.Service) bool { return have.Name == s.Service.Name }) {
			all = append(all, *s.Service)
		}
	}
	return all
}

// Cluster is the namespace in which a method plans.
type Cluster struct {
	Client    kubernetes.Interface
	Kinds     workload.Kinds
	Namespace string
}

// Method is one way for an agent to get into a workload and for traffic to reach
// it.
type Method interface {
	// Plan returns what the method would do for the request. It changes nothing.
	Plan(ctx context.Context, c Cluster, r Request) (*Plan, error)
}

// Methods returns the methods in the order in which they are tried.
func Methods() []Method { return []Method{Sidecar{}} }

// Choose returns the plan of the first of the methods that nothing forbids, else
// the plan of the first, whose refusals say why not.
func Choose(ctx context.Context, c Cluster, methods []Method, r Request) (*Plan, error) {
	var first *Plan
	for _, m := range methods {
		plan, err := m.Plan(ctx, c, r)
		if err != nil {
			return nil, err
		}
		if len(plan.Refusals) == 0 {
			return plan, nil
		}
		if first == nil {
			first = plan
		}
	}
	return first, nil
}

// Plan is what a method would do for an intercept: data, of which nothing has
// been done.
type Plan struct {
	Target   workload.Ref
	Method   string   // how the agent gets there: sidecar
	Captures []string // how the port's traffic reaches the agent, in a user's words
	Along    []string // the same of the other ports that are captured at once
	Shared   bool     // clients of the port's Services reach pods of others, too
	Joins    bool     // an agent is there already, and takes this intercept without a restart
	Restarts int32    // how many pods a rolling update replaces; 0 is no rolling update
	// Arrivals bring the agents, Switches lead clients to them. The switches are
	// made in this order once every agent knows the intercept, and undone before
	// the arrivals are.
	Arrivals, Switches []Change
	Refusals           []Refusal
	Warnings           []string
	Rights             []access.Right // without which it does not work
}

// String says in one line what will be done and what it costs.
func (p *Plan) String() string {
	switch {
	case len(p.Captures) == 0 && p.Restarts > 0:
		return fmt.Sprintf("inject %s: one rolling update of %d pods", p.Method, p.Restarts)
	case p.Joins:
		return fmt.Sprintf("%s has an agent already: joining it", p.Target)
	case p.Restarts > 0:
		return fmt.Sprintf("inject %s, capture %s: one rolling update of %d pods", p.Method, p.captures(), p.Restarts)
	}
	return fmt.Sprintf("inject %s, capture %s", p.Method, p.captures())
}

// captures lists each capture once. Those that begin together say the same.
func (p *Plan) captures() string {
	all := slices.Concat(p.Captures, p.Along)
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " and ")
}

// Refused returns, as a *Refusal, the first reason not to carry out the plan that
// allowRestart does not permit, else nil.
func (p *Plan) Refused(allowRestart bool) error {
	for i := range p.Refusals {
		if !p.Refusals[i].Restart || !allowRestart {
			return &p.Refusals[i]
		}
	}
	return nil
}

// Change is one object to be changed.
type Change struct {
	workload.Ref
	// Done is what to tell users when it is done; "" is nothing.
	Done string
	// Addresses are where clients find what a switch leads to the agents.
	Addresses []netip.AddrPort

	kind  workload.Kind // nil for a Service
	store workload.Store
	// update is evaluated on the object as it is when it is written.
	update func(ctx context.Context, now workload.Object) (workload.Object, error)
}

// Apply makes the change. restarts reports whether the pods of a workload are
// replaced for it. The changed workload is nil for a Service.
func (c Change) Apply(ctx context.Context) (changed *workload.Workload, restarts bool, err error) {
	before, after, err := Retry(ctx, c.store, c.Ref, func(now workload.Object) (workload.Object, error) {
		return c.update(ctx, now)
	})
	if err != nil || c.kind == nil {
		return nil, false, err
	}
	changed = c.kind.View(after)
	return changed, Restarts(c.kind.View(before), changed), nil
}

// Preview returns what the change would make of the object as it is now.
func (c Change) Preview(ctx context.Context) (workload.Object, error) {
	now, err := c.store.Get(ctx, c.Name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", c.Ref, err)
	}
	return c.update(ctx, now)
}
