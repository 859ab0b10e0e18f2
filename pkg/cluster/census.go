package cluster

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// askLimit bounds asking one agent.
const askLimit = 4 * time.Second

// Census is what the agents of a workload said about themselves.
type Census struct {
	Infos []api.Info
	// Unreached are the pods whose agents run but did not answer. Whoever is
	// registered with them is not known. Pods that are being deleted are left out:
	// who is live is registered with those that stay, too.
	Unreached []string
}

// Ask asks all agents at once. It takes a few seconds at most, and less when all
// answer.
func (a *Agents) Ask(ctx context.Context) Census {
	ctx, cancel := context.WithTimeoutCause(ctx, askLimit, fmt.Errorf("no answer within %s", askLimit))
	defer cancel()
	select {
	case <-a.synced:
	case <-ctx.Done():
		return Census{Unreached: []string{"(the pods are not known)"}}
	}
	a.mu.Lock()
	var pods []*podLink
	for _, p := range a.pods {
		pods = append(pods, p)
	}
	a.mu.Unlock()
	var (
		mu     sync.Mutex
		census Census
		wg     sync.WaitGroup
	)
	for _, p := range pods {
		wg.Go(func() {
			info, err := p.ask(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				a.log.Debug("agent does not answer", "pod", p.name, "err", err)
				if !a.isEnding(p) {
					census.Unreached = append(census.Unreached, p.name)
				}
				return
			}
			census.Infos = append(census.Infos, info)
		})
	}
	wg.Wait()
	slices.Sort(census.Unreached)
	slices.SortFunc(census.Infos, func(a, b api.Info) int { return strings.Compare(a.Pod, b.Pod) })
	return census
}

func (a *Agents) isEnding(p *podLink) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return p.ending
}

func (p *podLink) ask(ctx context.Context) (api.Info, error) {
	t, err := p.link.Wait(ctx)
	if err != nil {
		return api.Info{}, err
	}
	return AskInfo(ctx, t)
}

// AskInfo asks the agent at the other end of a tunnel about itself.
func AskInfo(ctx context.Context, t *tunnel.Tunnel) (api.Info, error) {
	flow, err := t.Open(ctx, tunnel.Target{Network: api.NetworkService, Address: api.ServiceInfo})
	if err != nil {
		return api.Info{}, err
	}
	defer func() { _ = flow.Close() }()
	defer context.AfterFunc(ctx, func() { _ = flow.Close() })()
	return api.ReadInfo(flow)
}

// Holds reports whether an agent has the registration of this ID in force.
func (c Census) Holds(id string) bool {
	return slices.ContainsFunc(c.holders(), func(h api.Holder) bool { return h.ID == id && h.LostSeconds == 0 })
}

// Missed returns for how long the agents have not reached the session of the
// registration of this ID, the shortest time of all. ok is false if none has it.
func (c Census) Missed(id string) (missed time.Duration, ok bool) {
	for _, h := range c.holders() {
		lost := time.Duration(h.LostSeconds * float64(time.Second))
		if h.ID == id && (!ok || lost < missed) {
			missed, ok = lost, true
		}
	}
	return missed, ok
}

// Rule returns what the registration of this ID has at the agents: counts are those of
// all together.
func (c Census) Rule(id string) (rule api.Holder) {
	for _, h := range c.holders() {
		if h.ID == id {
			h.Taken += rule.Taken
			h.Dropped += rule.Dropped
			rule = h
		}
	}
	return rule
}

// Opaque counts the connections that agents could not look into, by reason; nil if
// there was none.
func (c Census) Opaque() map[string]int64 {
	var all map[string]int64
	for _, info := range c.Infos {
		for _, capture := range info.Captures {
			for why, n := range capture.Opaque {
				if all == nil {
					all = map[string]int64{}
				}
				all[why] += n
			}
		}
	}
	return all
}

// Owners names, once each, who has something in force.
func (c Census) Owners() []string {
	var names []string
	for _, h := range c.holders() {
		if h.LostSeconds == 0 {
			names = append(names, h.Owner.User+"@"+h.Owner.Host)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (c Census) holders() []api.Holder {
	var all []api.Holder
	for _, info := range c.Infos {
		for _, capture := range info.Captures {
			all = append(all, capture.Holders...)
		}
		all = append(all, info.Readers...)
	}
	return all
}

// AskPod asks the agent of one pod about itself, over a tunnel of its own. It
// takes a few seconds at most.
func (c *Cluster) AskPod(ctx context.Context, pod *corev1.Pod) (api.Info, error) {
	agent, ok := inject.AgentIn(&pod.Spec)
	if !ok || !AgentStarted(pod) {
		return api.Info{}, fmt.Errorf("pod %s has no agent that runs", pod.Name)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, askLimit, fmt.Errorf("no answer within %s", askLimit))
	defer cancel()
	token, err := NewToken(8)
	if err != nil {
		return api.Info{}, err
	}
	dial := func(ctx context.Context) (net.Conn, error) { return c.DialAgent(ctx, pod.Name, agent.ControlPort) }
	t, err := tunnel.Dial(ctx, dial, tunnel.Config{Key: agent.Key, Session: AskPrefix + token, Log: c.Log()})
	if err != nil {
		return api.Info{}, err
	}
	defer func() { _ = t.Close() }()
	return AskInfo(ctx, t)
}
