package intercept

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// testAgent is the agent of a pod of the stage: what an order of events needs of
// one, over pipes, so that its time is the test's.
type testAgent struct {
	pod      *corev1.Pod
	stage    *stage
	ports    map[agent.Port][]*held // by the app's port; 0: those who want files alone
	tunnels  *tunnel.Server
	started  time.Time
	features []agent.Feature

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
}

// held is a port that a registration holds.
type held struct {
	agent.Holder
	tunnel *tunnel.Tunnel
}

// newTestAgent starts the agent that the pod's spec describes, nil if there is
// none.
func newTestAgent(s *stage, pod *corev1.Pod) *testAgent {
	found, ok := inject.AgentIn(&pod.Spec)
	if !ok {
		return nil
	}
	server, err := tunnel.NewServer(tunnel.Config{Key: found.Key})
	if err != nil {
		s.t.Error(err)
		return nil
	}
	a := &testAgent{pod: pod, stage: s, ports: map[agent.Port][]*held{}, tunnels: server, started: time.Now(), features: s.features}
	for _, c := range found.Captures {
		a.ports[c.Port()] = nil
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

func (a *testAgent) stop() {
	a.cancel()
	a.wg.Wait()
}

// dial is a connection to the control port.
func (a *testAgent) dial() net.Conn {
	near, far := net.Pipe()
	a.wg.Go(func() {
		t, first, err := a.tunnels.Handle(a.ctx, far)
		if err == nil && first {
			a.serve(t)
		}
	})
	return near
}

func (a *testAgent) serve(t *tunnel.Tunnel) {
	defer func() { _ = t.Close() }()
	for {
		req, err := t.AcceptFlow(a.ctx)
		if err != nil {
			return
		}
		a.wg.Go(func() {
			switch req.Target().Address {
			case agent.ServiceInfo:
				a.info(req)
			case agent.ServiceRegister:
				a.register(t, req)
			case agent.ServiceProbe:
				a.probe(req)
			default:
				_ = req.Refuse(tunnel.Unknown, "not known here")
			}
		})
	}
}

func (a *testAgent) info(req *tunnel.Request) {
	flow, err := req.Accept()
	if err != nil {
		return
	}
	defer func() { _ = flow.Close() }()
	info := agent.Info{Pod: a.pod.Name, Features: a.features, UpSeconds: time.Since(a.started).Seconds()}
	a.mu.Lock()
	for port, all := range a.ports {
		capture := agent.CaptureInfo{Capture: agent.Capture{App: port.Number, Protocol: port.Protocol}, IdleSeconds: -1}
		for _, h := range all {
			holder := h.Holder
			if since, lost := h.tunnel.Lost(); lost {
				holder.LostSeconds = time.Since(since).Seconds()
			}
			capture.Holders = append(capture.Holders, holder)
		}
		if port.Number == 0 {
			info.Readers = capture.Holders
			continue
		}
		info.Captures = append(info.Captures, capture)
	}
	a.mu.Unlock()
	_ = json.NewEncoder(flow).Encode(info)
}

func (a *testAgent) register(t *tunnel.Tunnel, req *tunnel.Request) {
	r, err := agent.ParseRegistration(req.Target().Meta)
	if err != nil {
		_ = req.Refuse(tunnel.Failed, err.Error())
		return
	}
	holder := &held{Holder: agent.Holder{ID: r.ID, Owner: r.Owner}, tunnel: t}
	if reason, err := a.hold(rulesOf(r), holder); err != nil {
		_ = req.Refuse(reason, err.Error())
		return
	}
	flow, err := req.Accept()
	if err == nil {
		stop := context.AfterFunc(a.ctx, func() { _ = flow.Close() })
		_, _ = io.Copy(io.Discard, flow)
		stop()
	}
	a.mu.Lock()
	for _, rule := range rulesOf(r) {
		a.ports[rule.Port] = slices.DeleteFunc(a.ports[rule.Port], func(h *held) bool { return h == holder })
	}
	a.mu.Unlock()
	if err == nil {
		_ = flow.Close()
	}
}

func rulesOf(r agent.Registration) []agent.Rule {
	if len(r.Rules) == 0 {
		return []agent.Rule{{}}
	}
	return r.Rules
}

func (a *testAgent) hold(rules []agent.Rule, holder *held) (tunnel.Reason, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, rule := range rules {
		had, captured := a.ports[rule.Port]
		if rule.Number == 0 {
			break
		}
		if !captured {
			return tunnel.Unknown, fmt.Errorf("port %s is not captured here", rule.Port)
		}
		for _, h := range had {
			if h.ID != holder.ID && spell(h.Match) == spell(rule.Match) {
				return tunnel.Conflict, fmt.Errorf("port %s is intercepted by %s", rule.Port, h.Owner.User)
			}
		}
	}
	for _, rule := range rules {
		holder.Match = rule.Match
		a.ports[rule.Port] = append(slices.DeleteFunc(a.ports[rule.Port], func(h *held) bool { return h.ID == holder.ID }), holder)
	}
	return 0, nil
}

// probe makes the connection that is asked for: where the node leads it to an
// agent, that offers it to who holds the port.
func (a *testAgent) probe(req *tunnel.Request) {
	r, err := agent.ParseProbeRequest(req.Target().Meta)
	if err != nil {
		_ = req.Refuse(tunnel.Failed, err.Error())
		return
	}
	flow, err := req.Accept()
	if err != nil {
		return
	}
	defer func() { _ = flow.Close() }()
	if h := a.leads(r.Address); h != nil {
		meta, _ := json.Marshal(agent.Captured{MSS: r.MSS - 12})
		offered, err := h.tunnel.Open(a.ctx, tunnel.Target{Network: agent.NetworkIntercept, Address: h.ID, Meta: meta})
		if err == nil {
			defer func() { _ = offered.Close() }()
		}
	}
	_ = json.NewEncoder(flow).Encode(agent.ProbeReply{Connected: true})
	_, _ = io.Copy(io.Discard, flow)
}

// leads returns who holds the port to which the node leads an address, nil if it
// leads to an app.
func (a *testAgent) leads(address string) *held {
	port := a.stage.app(address)
	a.mu.Lock()
	defer a.mu.Unlock()
	if all := a.ports[port]; len(all) > 0 {
		return all[0]
	}
	return nil
}
