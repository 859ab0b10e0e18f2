package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

const (
	// remakeLimit bounds one attempt to make another agent.
	remakeLimit = time.Minute
	// The wait between attempts to make another agent doubles.
	remakeBackoffFirst = time.Second
	remakeBackoffLast  = 30 * time.Second
)

// OwnAgent is the agent that a session makes for itself. When its pod is deleted,
// evicted or lost with its node, another is made, and the laptop's addresses and
// names stay as they are. Its methods may be called concurrently.
type OwnAgent struct {
	cluster *Cluster
	image   string
	log     *slog.Logger
	cancel  context.CancelFunc
	done    chan struct{} // closed when run has returned

	mu      sync.Mutex
	current *agentPod
	changed chan struct{} // closed at the next change of current
	lastErr error         // why there is no other agent yet, once current has ended
}

// StartOwnAgent makes an agent and returns when a tunnel to it is up. On failure
// nothing of it stays.
func (c *Cluster) StartOwnAgent(ctx context.Context, image string, p api.Progress) (*OwnAgent, error) {
	first, err := c.makeAgentPod(ctx, image, p)
	if err != nil {
		return nil, err
	}
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a := &OwnAgent{
		cluster: c, image: image, log: c.cfg.Log, cancel: cancel,
		current: first, done: make(chan struct{}), changed: make(chan struct{}),
	}
	go a.run(runCtx, first)
	// An agent that is lost before it was reached is a failure.
	if _, err := first.link.Wait(ctx); err != nil {
		return nil, errors.Join(err, a.Close(context.WithoutCancel(ctx)))
	}
	return a, nil
}

// run makes another agent whenever the current one is lost, until ctx ends.
func (a *OwnAgent) run(ctx context.Context, current *agentPod) {
	defer close(a.done)
	for {
		select {
		case <-current.ended:
		case <-ctx.Done():
			return
		}
		a.log.Warn("the session's agent is gone, another is made", "pod", current.pod, "err", current.err)
		if current = a.remake(ctx, current); current == nil {
			return
		}
		a.log.Info("another agent", "pod", current.pod)
	}
}

// remake removes the old agent and returns another, or nil when ctx has ended.
func (a *OwnAgent) remake(ctx context.Context, old *agentPod) *agentPod {
	if err := old.remove(ctx); err != nil {
		a.log.Debug("the old agent is not removed", "err", err)
	}
	backoff := remakeBackoffFirst
	for {
		makeCtx, cancel := context.WithTimeoutCause(ctx, remakeLimit, fmt.Errorf("no other agent within %s", remakeLimit))
		next, err := a.cluster.makeAgentPod(makeCtx, a.image, nil)
		cancel()
		a.set(next, err)
		if err == nil {
			return next
		}
		a.log.Warn("no other agent yet", "err", err)
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return nil
		}
		backoff = min(2*backoff, remakeBackoffLast)
	}
}

// set makes next the current agent, or records why there is none.
func (a *OwnAgent) set(next *agentPod, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastErr = err
	if next != nil {
		a.current = next
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// get returns the current agent, and a channel that is closed when there is
// another.
func (a *OwnAgent) get() (current *agentPod, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current, a.changed
}

// Tunnel returns the tunnel as soon as there is one, or an error when ctx ends.
func (a *OwnAgent) Tunnel(ctx context.Context) (*tunnel.Tunnel, error) {
	for {
		current, changed := a.get()
		t, err := current.link.Wait(ctx)
		if err == nil || ctx.Err() != nil {
			return t, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// Info asks the agent about its pod and the cluster around it.
func (a *OwnAgent) Info(ctx context.Context) (agent.Info, error) {
	t, err := a.Tunnel(ctx)
	if err != nil {
		return agent.Info{}, err
	}
	return AskInfo(ctx, t)
}

// resumeWait is how long a new connection waits for a tunnel that is being
// brought up again before it is refused.
const resumeWait = 10 * time.Second

// Dial opens a flow to an address of the cluster; network is tcp or udp. While
// the tunnel is down it waits for it, for at most 10 s.
func (a *OwnAgent) Dial(ctx context.Context, network string, addr netip.AddrPort) (*tunnel.Flow, error) {
	wait, cancel := context.WithTimeout(ctx, resumeWait)
	defer cancel()
	t, err := a.Tunnel(wait)
	if err != nil {
		return nil, err
	}
	if !t.Up() {
		ctx = wait
	}
	return t.Open(ctx, tunnel.Target{Network: network, Address: addr.String()})
}

// Status returns the state of the current agent and of the tunnel to it.
func (a *OwnAgent) Status() api.AgentStatus {
	a.mu.Lock()
	current, lastErr := a.current, a.lastErr
	a.mu.Unlock()
	st := api.AgentStatus{Pod: current.pod, Node: current.node, Inject: "pod"}
	current.link.Status(&st)
	if lastErr != nil {
		st.Error = fmt.Sprintf("it is gone, and there is no other yet: %v", lastErr)
	}
	return st
}

// Pod returns the name of the current agent's pod.
func (a *OwnAgent) Pod() string {
	current, _ := a.get()
	return current.pod
}

// Close ends the tunnel and removes the agent. It may be called again.
func (a *OwnAgent) Close(ctx context.Context) error {
	a.cancel()
	<-a.done
	current, _ := a.get()
	return current.remove(ctx)
}
