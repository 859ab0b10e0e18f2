package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	control "github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

const (
	// registerRetry is how long after an agent's refusal it is asked again: the
	// port's other owner may leave.
	registerRetry = 2 * time.Second
	// confirmLimit bounds waiting for agents to confirm that they offer no more
	// connections: a round trip, or more on a busy node.
	confirmLimit = 3 * time.Second
)

// Registration is kept in force at every agent of a workload: at those that are
// there and at those that come, with replicas and restarts.
type Registration struct {
	agents *Agents
	id     string
	meta   []byte
	serve  func(context.Context, *tunnel.Request)

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	serving sync.WaitGroup // captured connections

	// Guarded by agents.mu:
	held   map[*podLink]*hold
	ending bool
	closed bool
}

// hold is what a registration has at one agent.
type hold struct {
	flow *tunnel.Flow // nil while the agent has not accepted it
	// open reports whether the agent may offer connections: the registration
	// has been asked for, is in force, or is being taken back.
	open bool
	err  error // why it was refused the last time
}

// Register asks every agent of the workload for what r wants, until Close. serve
// is called, on a goroutine of its own, for each connection that an agent
// captured for it; its context ends with Close.
func (a *Agents) Register(r api.Registration, serve func(context.Context, *tunnel.Request)) (*Registration, error) {
	meta, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write the registration: %w", err)
	}
	reg := &Registration{agents: a, id: r.ID, meta: meta, serve: serve, held: map[*podLink]*hold{}}
	reg.ctx, reg.cancel = context.WithCancel(context.Background())
	a.mu.Lock()
	defer a.mu.Unlock()
	a.registrations[r.ID] = reg
	a.announce()
	return reg, nil
}

// keep holds the registration at one agent, and asks again when that ends, until
// the registration, the tunnel or ctx does.
func (r *Registration) keep(ctx context.Context, p *podLink, t *tunnel.Tunnel) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	for r.open(p) {
		r.hold(ctx, p, t)
		select {
		case <-time.After(registerRetry):
		case <-t.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// open notes that the agent is asked, unless the registration is ending.
func (r *Registration) open(p *podLink) bool {
	r.agents.mu.Lock()
	defer r.agents.mu.Unlock()
	if r.ending {
		return false
	}
	r.held[p] = &hold{open: true}
	return true
}

// hold registers and returns when that ends or is refused. The agent ends the
// flow when it will offer no more connections for it.
func (r *Registration) hold(ctx context.Context, p *podLink, t *tunnel.Tunnel) {
	log := r.agents.log.With("pod", p.name, "intercept", r.id)
	flow, err := t.Open(ctx, tunnel.Target{Network: api.NetworkService, Address: api.ServiceRegister, Meta: r.meta})
	if err != nil {
		log.Warn("agent refuses the intercept", "err", err)
		r.set(p, &hold{err: err})
		return
	}
	if r.set(p, &hold{flow: flow, open: true}) {
		_ = flow.CloseWrite()
	} else {
		log.Info("intercept active")
	}
	stop := context.AfterFunc(ctx, func() { _ = flow.Close() })
	defer stop()
	_, err = io.Copy(io.Discard, flow)
	_ = flow.Close()
	r.set(p, &hold{err: err})
}

// set notes what the registration has at an agent, and reports whether it is
// ending.
func (r *Registration) set(p *podLink, h *hold) (ending bool) {
	r.agents.mu.Lock()
	defer r.agents.mu.Unlock()
	if r.agents.pods[p.uid] == p {
		r.held[p] = h
	}
	r.agents.announce()
	return r.ending
}

// take counts a connection that is about to be served; false when the
// registration is closed. agents.mu is held.
func (r *Registration) take() bool {
	if r.closed {
		return false
	}
	r.serving.Add(1)
	return true
}

// Wait returns when the agents of all these pods have the registration in force,
// those left out that go meanwhile, or with the first refusal for the sake of another owner, a *tunnel.RefusedError
// with reason Conflict.
func (r *Registration) Wait(ctx context.Context, pods []corev1.Pod) error {
	for {
		missing, changed, err := r.missing(pods)
		switch {
		case err != nil:
			return err
		case missing == "":
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the agent in pod %s is not reached: %w", missing, context.Cause(ctx))
		}
	}
}

// missing names a pod whose agent does not have the registration yet.
func (r *Registration) missing(pods []corev1.Pod) (missing string, changed <-chan struct{}, err error) {
	a := r.agents
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, pod := range pods {
		if a.gone[pod.UID] {
			continue
		}
		h := r.held[a.pods[pod.UID]]
		var refused *tunnel.RefusedError
		switch {
		case h != nil && h.flow != nil:
		case h != nil && errors.As(h.err, &refused) && refused.Reason == tunnel.Conflict:
			return "", nil, h.err
		default:
			missing = pod.Name
		}
	}
	return missing, a.changed, nil
}

// End takes the registration back at every agent and returns when all have
// confirmed that they offer no more connections. Those that have not within a
// few seconds are named. Connections that are open go on until Close.
func (r *Registration) End(ctx context.Context) (unconfirmed []string) {
	r.agents.mu.Lock()
	r.ending = true
	for _, h := range r.held {
		if h.flow != nil {
			_ = h.flow.CloseWrite()
		}
	}
	r.agents.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, confirmLimit)
	defer cancel()
	for {
		pods, changed := r.offering()
		if len(pods) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return pods
		}
	}
}

// offering names the pods whose agents may still offer connections.
func (r *Registration) offering() (pods []string, changed <-chan struct{}) {
	a := r.agents
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pods {
		if h := r.held[p]; h != nil && h.open {
			pods = append(pods, p.name)
		}
	}
	slices.Sort(pods)
	return pods, a.changed
}

// Close ends the registration and resets the connections that are open. It
// returns when nothing serves any more, and may be called again.
func (r *Registration) Close() {
	a := r.agents
	a.mu.Lock()
	r.ending, r.closed = true, true
	delete(a.registrations, r.id)
	a.announce()
	a.mu.Unlock()
	r.cancel()
	r.serving.Wait()
}

// Status returns the agents of the workload in the order of their pods' names, as
// this registration sees them. Agents that it is not in force at are left out once
// their pods are being deleted.
func (r *Registration) Status() []control.AgentStatus {
	a := r.agents
	a.mu.Lock()
	defer a.mu.Unlock()
	all := []control.AgentStatus{}
	for _, p := range a.pods {
		st := control.AgentStatus{Pod: p.name, Node: p.node, Inject: "sidecar"}
		p.link.Status(&st)
		h := r.held[p]
		st.Up = st.Up && h != nil && h.flow != nil
		if st.Error == "" && h != nil && h.err != nil && h.flow == nil {
			st.Error = h.err.Error()
		}
		if st.Up || !p.ending {
			all = append(all, st)
		}
	}
	slices.SortFunc(all, func(a, b control.AgentStatus) int { return strings.Compare(a.Pod, b.Pod) })
	return all
}
