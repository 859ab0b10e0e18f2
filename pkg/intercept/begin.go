package intercept

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/poll"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

const (
	// reachLimit bounds reaching all agents once their pods run.
	reachLimit = 20 * time.Second
	// observeLimit is how long a workload's controller may take to see a change, and
	// observeEvery how often it is looked for.
	observeLimit = 5 * time.Second
	observeEvery = 100 * time.Millisecond
	// giveWayEvery is how often it is looked whether another has given way.
	giveWayEvery = 500 * time.Millisecond
)

// begin takes the traffic. It returns when new connections and those that clients
// keep alive reach the agents, as far as that can be had; what cannot is said.
func (i *Intercept) begin(ctx context.Context) error {
	if !i.spec.Lazy && !i.spec.FilesOnly {
		if err := checkHandler(ctx, i.target); err != nil {
			return err
		}
	}
	plan, err := i.choose(ctx)
	if err != nil {
		return err
	}
	// None of those that begin together changes anything before all may.
	if err := i.start.wait(ctx); err != nil {
		return err
	}
	w, replaced, err := i.arrive(ctx, plan)
	if err != nil {
		return err
	}
	if err := i.register(w); err != nil {
		return err
	}
	if replaced {
		if err := i.rollOut(ctx, w); err != nil {
			return err
		}
	}
	if err := i.checkAgents(ctx); err != nil {
		return err
	}
	if err := i.reachAll(ctx, w); err != nil {
		return err
	}
	if replaced && !i.spec.FilesOnly {
		old := func(p *corev1.Pod) bool { return !podCaptures(p, i.target.app()) }
		if err := waitReplaced(ctx, i.cluster, w, i.agents.Changed, old, i.progress.emit()); err != nil {
			return err
		}
	}
	if err := i.switchOver(ctx, plan); err != nil {
		return err
	}
	if i.spec.DirCopy {
		ctx = i.wanted // files may be large: the rollout's limit is not theirs
	}
	return i.bringFiles(ctx)
}

// checkHandler makes sure that something answers before traffic is sent there.
func checkHandler(ctx context.Context, t *target) error {
	check := t.handler.Check
	if t.app().Protocol == agent.UDP {
		check = t.handler.CheckUDP
	}
	return hint.With(check(ctx),
		"start the handler first, or let tele start it: kubectl tele intercept WORKLOAD --port PORT -- COMMAND",
		"--to HOST:PORT names another handler")
}

// choose plans the intercept and refuses what would hurt or not work, before
// anything is changed.
func (i *Intercept) choose(ctx context.Context) (*inject.Plan, error) {
	c := i.cluster
	key, err := cluster.NewKey()
	if err != nil {
		return nil, err
	}
	w, err := i.observed(ctx)
	if err != nil {
		return nil, err
	}
	place := inject.Cluster{Client: c.Client(), Kinds: c.Kinds(), Namespace: c.Namespace()}
	plan, err := inject.Choose(ctx, place, i.set.methods, inject.Request{
		Target: w, Port: i.target.port, Ports: i.target.ports, Workloads: i.target.workloads,
		Agent: inject.Options{Image: i.spec.AgentImage, Key: key},
		Owner: i.recordOwner(), Files: i.target.files, Write: i.spec.DirWrite,
	})
	if err != nil {
		return nil, err
	}
	if err := plan.Refused(i.spec.AllowRestart); err != nil {
		return nil, err
	}
	i.mu.Lock()
	i.plan = plan
	i.mu.Unlock()
	p := i.progress.emit()
	p.Done(plan.String())
	for _, warning := range plan.Warnings {
		p.Warn(warning)
	}
	return plan, nil
}

// observed returns the workload as soon as its state is about its newest change, which
// may be an undo's of a moment ago. When that takes long it is for the plan to refuse.
func (i *Intercept) observed(ctx context.Context) (w *workload.Workload, err error) {
	c := i.cluster
	limited, cancel := context.WithTimeout(ctx, observeLimit)
	defer cancel()
	late := poll.Until(limited, observeEvery, func() (bool, error) {
		w, err = c.Kinds().Get(ctx, c.Client(), c.Namespace(), i.target.Ref)
		return err == nil && w.State.Observed, err
	})
	if late != nil && ctx.Err() != nil {
		return nil, late
	}
	return w, err
}

// arrive brings the agents into the workload. replaced reports whether its pods
// are being replaced, by this or by another's rolling update to the same agent.
func (i *Intercept) arrive(ctx context.Context, plan *inject.Plan) (w *workload.Workload, replaced bool, err error) {
	i.recorded = true
	for _, change := range plan.Arrivals {
		changed, restarts, err := change.Apply(ctx)
		if err != nil {
			return nil, false, err
		}
		if changed != nil {
			w, replaced = changed, replaced || restarts || changed.State.Rolling()
		}
	}
	if w == nil {
		return nil, false, fmt.Errorf("no agent arrives at %s", i.target)
	}
	return w, replaced, nil
}

// register asks every agent of the workload, those that come too, for the
// traffic.
func (i *Intercept) register(w *workload.Workload) error {
	var err error
	if i.agents, err = i.cluster.Agents(w); err != nil {
		return err
	}
	registration, err := i.agents.Register(agent.Registration{
		ID: i.id, Owner: i.owner, TakeOver: i.spec.TakeOver,
		Rules: i.rules(), Files: i.spec.FilesOnly,
	}, i.serve)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.registration = registration
	return nil
}

// serve answers one captured connection.
func (i *Intercept) serve(ctx context.Context, req *tunnel.Request) {
	captured := capturedOf(req)
	switch {
	case i.probes.recognize(req, captured):
	case captured.Probe:
		_ = req.Refuse(tunnel.Denied, "no probe is expected")
	case req.Target().Network == agent.NetworkDatagrams:
		i.handler.ServeDatagrams(ctx, req)
	default:
		i.handler.Serve(ctx, req)
	}
}

// rollOut waits for the rolling update.
func (i *Intercept) rollOut(ctx context.Context, w *workload.Workload) error {
	p := i.progress.emit()
	p.Doing("rolling update of " + w.String())
	if err := waitRollout(ctx, i.cluster, w, i.agents.Changed, p); err != nil {
		return err
	}
	p.Done("rolling update of " + w.String() + " complete")
	return nil
}

// reachAll waits until the agents of all pods that are there to stay have the
// intercept in force.
func (i *Intercept) reachAll(ctx context.Context, w *workload.Workload) error {
	pods, err := w.Kind.Controller(i.cluster.Client()).Pods(ctx, w)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reachLimit, fmt.Errorf("no answer within %s", reachLimit))
	defer cancel()
	var refused *tunnel.RefusedError
	for {
		refused = nil
		err = i.registration.Wait(ctx, running(pods))
		if !errors.As(err, &refused) || refused.Reason != tunnel.Conflict || !i.goesFirst(ctx) {
			break
		}
		select { // the other gives way
		case <-time.After(giveWayEvery):
			continue
		case <-ctx.Done():
		}
		break
	}
	if refused != nil && refused.Reason == tunnel.Conflict {
		hints := []string{"`kubectl tele list` shows by whom"}
		if !i.spec.TakeOver {
			hints = append(hints, "--take-over takes it from a session that is not reached")
		}
		return hint.With(fmt.Errorf("%s is intercepted already: %s", i.target, refused.Message), hints...)
	}
	return err
}

// goesFirst reports whether this intercept goes before those who stand in its way.
func (i *Intercept) goesFirst(ctx context.Context) bool {
	return goesFirst(agent.Holder{ID: i.id, Owner: i.owner}, i.target.app(), i.agents.Ask(ctx).Infos)
}

// goesFirst decides between those who begin at the same moment, each of whom has come first
// at some of the agents: the one that began first goes on, and the others give way.
func goesFirst(me agent.Holder, port agent.Port, agents []agent.Info) bool {
	mine := false
	for _, info := range agents {
		for _, c := range info.Captures {
			if c.Port() != port {
				continue
			}
			for _, h := range c.Holders {
				switch {
				case h.ID == me.ID:
					mine = true
				case cmp.Or(me.Owner.Since.Compare(h.Owner.Since), cmp.Compare(me.ID, h.ID)) > 0:
					return false
				}
			}
		}
	}
	return mine
}

// switchOver leads clients to the agents where that takes a change of its own.
func (i *Intercept) switchOver(ctx context.Context, plan *inject.Plan) error {
	p := i.progress.emit()
	for _, change := range plan.Switches {
		if _, _, err := change.Apply(ctx); err != nil {
			return err
		}
		if change.Done != "" {
			p.Done(change.Done)
		}
	}
	return i.prove(ctx, plan.Switches)
}
