package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun/netstack"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

const (
	// remakeLimit bounds one attempt to make another agent.
	remakeLimit = time.Minute
	// Between attempts to make another agent.
	remakeBackoffFirst = time.Second
	remakeBackoffLast  = 30 * time.Second
)

// ownAgent is the agent that a session makes for itself. Agents come and go:
// when one is deleted, evicted or lost with its node, another is made, and the
// laptop's addresses and names stay as they are.
type ownAgent struct {
	session *Session
	image   string
	log     *slog.Logger
	cancel  context.CancelFunc
	done    chan struct{}

	mu      sync.Mutex
	now     *agentPod
	changed chan struct{} // closed at the next change of now
	lastErr error         // why there is no other agent yet, after now has ended
}

// startOwnAgent makes an agent and returns when a tunnel to it is up. On
// failure nothing of it is left.
func (s *Session) startOwnAgent(ctx context.Context, image string, p Progress) (*ownAgent, error) {
	first, err := s.makeAgentPod(ctx, image, p)
	if err != nil {
		return nil, err
	}
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a := &ownAgent{
		session: s, image: image, log: s.log, cancel: cancel,
		now: first, done: make(chan struct{}), changed: make(chan struct{}),
	}
	go a.run(runCtx, first)
	// Before it has been reached, a lost agent is a failure.
	if _, err := first.link.wait(ctx); err != nil {
		return nil, errors.Join(err, a.close(context.WithoutCancel(ctx)))
	}
	return a, nil
}

// run keeps a tunnel to an agent up until ctx ends.
func (a *ownAgent) run(ctx context.Context, now *agentPod) {
	defer close(a.done)
	for {
		select {
		case <-now.ended:
		case <-ctx.Done():
			return
		}
		a.log.Warn("the session's agent is gone, another is made", "pod", now.pod, "err", now.err)
		if now = a.remake(ctx, now); now == nil {
			return
		}
		a.log.Info("another agent", "pod", now.pod)
	}
}

// remake returns another agent, or nil when ctx has ended.
func (a *ownAgent) remake(ctx context.Context, old *agentPod) *agentPod {
	if err := old.remove(ctx); err != nil {
		a.log.Debug("the old agent is not removed", "err", err)
	}
	backoff := remakeBackoffFirst
	for {
		makeCtx, cancel := context.WithTimeoutCause(ctx, remakeLimit, fmt.Errorf("no other agent within %s", remakeLimit))
		next, err := a.session.makeAgentPod(makeCtx, a.image, nil)
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

// set notes another agent, or why there is none.
func (a *ownAgent) set(next *agentPod, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastErr = err
	if next != nil {
		a.now = next
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// current is the agent there is, and what is closed when there is another.
func (a *ownAgent) current() (now *agentPod, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now, a.changed
}

// tunnel returns the tunnel as soon as there is one.
func (a *ownAgent) tunnel(ctx context.Context) (*tunnel.Tunnel, error) {
	for {
		now, changed := a.current()
		t, err := now.link.wait(ctx)
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

// info asks the agent about its pod and the cluster around it.
func (a *ownAgent) info(ctx context.Context) (api.Info, error) {
	t, err := a.tunnel(ctx)
	if err != nil {
		return api.Info{}, err
	}
	return askInfo(ctx, t)
}

// resumeWait is how long a new connection waits for a tunnel that is being
// brought up again before it is refused.
const resumeWait = 10 * time.Second

// dial opens a flow to an address of the cluster.
func (a *ownAgent) dial(ctx context.Context, network string, addr netip.AddrPort) (*tunnel.Flow, error) {
	wait, cancel := context.WithTimeout(ctx, resumeWait)
	defer cancel()
	t, err := a.tunnel(wait)
	if err != nil {
		return nil, err
	}
	if !t.Up() {
		ctx = wait
	}
	return t.Open(ctx, tunnel.Target{Network: network, Address: addr.String()})
}

func (a *ownAgent) dialTCP(ctx context.Context, addr netip.AddrPort) (splice.Carrier, error) {
	flow, err := a.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return flow, nil
}

func (a *ownAgent) dialUDP(ctx context.Context, addr netip.AddrPort) (netstack.PacketConn, error) {
	flow, err := a.dial(ctx, "udp", addr)
	if err != nil {
		return nil, err
	}
	return flow, nil
}

func (a *ownAgent) dialConn(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error) {
	flow, err := a.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return flow, nil
}

func (a *ownAgent) status() AgentStatus {
	a.mu.Lock()
	now, lastErr := a.now, a.lastErr
	a.mu.Unlock()
	st := AgentStatus{Pod: now.pod, Node: now.node, Inject: "pod"}
	now.link.fill(&st)
	if lastErr != nil {
		st.Error = fmt.Sprintf("it is gone, and there is no other yet: %v", lastErr)
	}
	return st
}

// pod is the name of the agent's pod there is.
func (a *ownAgent) pod() string {
	now, _ := a.current()
	return now.pod
}

// close ends the tunnel and removes the agent. It may be called again.
func (a *ownAgent) close(ctx context.Context) error {
	a.cancel()
	<-a.done
	now, _ := a.current()
	return now.remove(ctx)
}

// refuseAll serves a tunnel whose agent has nothing to ask of us.
func refuseAll(ctx context.Context, t *tunnel.Tunnel) {
	for {
		req, err := t.AcceptFlow(ctx)
		if err != nil {
			return
		}
		_ = req.Refuse(tunnel.Denied, "this session takes no connections here")
	}
}
