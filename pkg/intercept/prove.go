package intercept

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

const (
	// proveLimit bounds waiting until the nodes follow a switched Service.
	// kube-proxy does so at most once a second, and takes a moment for it.
	proveLimit = 15 * time.Second
	// proveStreak is how many probes in a row must come in through the Service.
	// While the EndpointSlices of the old and of the new port are both there, a
	// node leads to either by chance.
	proveStreak = 10
	// probeLimit is how long one probe may take to come in.
	probeLimit = time.Second
	// probePause is the least time between two probes that did not come in.
	probePause = 100 * time.Millisecond
)

// prove waits until the nodes lead switched Services to the agents. The evidence
// is that a connection that an agent on the node makes through the Service comes
// in at an agent as captured, several times in a row. What could not be proven is
// said; it is no error.
func (i *Intercept) prove(ctx context.Context, switches []inject.Change) error {
	var services []string
	var addresses []netip.AddrPort
	for _, change := range switches {
		if len(change.Addresses) > 0 {
			services = append(services, change.String())
			addresses = append(addresses, change.Addresses...)
		}
	}
	if len(addresses) == 0 {
		return nil
	}
	p := i.progress.emit()
	what := strings.Join(services, ", ")
	if i.target.app().Protocol == agent.UDP {
		// A datagram that proves it would be one more for the app where it is not so yet.
		p.Warn(fmt.Sprintf("whether every node leads datagrams to %s to the agents already cannot be seen: some may reach the app for a moment", what))
		return nil
	}
	p.Doing("waiting until " + what + " leads to the agents from every node")
	limited, cancel := context.WithTimeoutCause(ctx, proveLimit, fmt.Errorf("not within %s", proveLimit))
	defer cancel()
	proven, unproven := i.proveNodes(limited, addresses)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(proven) > 0 {
		p.Done(fmt.Sprintf("%s leads to the agents, as seen from %s; nodes without a pod of %s were not asked", what, strings.Join(proven, ", "), i.target.Ref))
	}
	if len(unproven) > 0 {
		p.Warn(fmt.Sprintf("%s was not seen to lead to the agents from %s: new connections from there may reach the app for a while", what, strings.Join(unproven, ", ")))
	}
	return nil
}

// proveNodes probes from one agent on each node, all at once.
func (i *Intercept) proveNodes(ctx context.Context, addresses []netip.AddrPort) (proven, unproven []string) {
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for node, prober := range i.agents.Probers(ctx) {
		wg.Go(func() {
			err := errors.New("its agent cannot probe")
			if prober != nil {
				err = i.proveNode(ctx, prober, addresses)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				i.log.Warn("a node is not seen to follow the Service", "node", node, "err", err)
				unproven = append(unproven, node)
				return
			}
			proven = append(proven, node)
		})
	}
	wg.Wait()
	slices.Sort(proven)
	slices.Sort(unproven)
	return proven, unproven
}

// proveNode probes the addresses one after the other.
func (i *Intercept) proveNode(ctx context.Context, prober *cluster.Prober, addresses []netip.AddrPort) error {
	for _, address := range addresses {
		var failed error
		for streak := 0; streak < proveStreak; {
			switch err := i.probe(ctx, prober, address); {
			case err == nil:
				streak++
				continue
			case ctx.Err() == nil || failed == nil:
				failed = err
			}
			streak = 0
			select {
			case <-time.After(probePause):
			case <-ctx.Done():
				return fmt.Errorf("%s: %w: %w", address, context.Cause(ctx), failed)
			}
		}
	}
	return nil
}

// probe makes one connection and returns nil if it comes in as captured.
func (i *Intercept) probe(ctx context.Context, prober *cluster.Prober, address netip.AddrPort) error {
	ctx, cancel := context.WithTimeoutCause(ctx, probeLimit, errors.New("the probe did not come in"))
	defer cancel()
	mark, seen, forget := i.probes.expect()
	if mark == 0 {
		return errors.New("too many probes at once")
	}
	defer forget()
	release, err := prober.Probe(ctx, agent.ProbeRequest{Address: address.String(), MSS: mark})
	if err != nil {
		return err
	}
	defer release()
	select {
	case <-seen:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// probes are the connections of our own that are under way. The zero value has
// none.
type probes struct {
	mu       sync.Mutex
	next     int
	expected map[uint16]chan struct{} // by the mark of the probe
}

// expect returns the mark of a new probe, a channel that is closed when the probe
// comes in, and a func that ends waiting for it. The mark is 0 when all are in
// use.
func (p *probes) expect() (mark uint16, seen <-chan struct{}, forget func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	marks := agent.ProbeMarks()
	for range marks {
		p.next = (p.next + 1) % len(marks)
		mark := marks[p.next]
		if p.expected[mark] != nil {
			continue
		}
		if p.expected == nil {
			p.expected = map[uint16]chan struct{}{}
		}
		came := make(chan struct{})
		p.expected[mark] = came
		return mark, came, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.expected, mark)
		}
	}
	return 0, nil, nil
}

// recognize reports whether a captured connection is a probe that is expected. It
// answers those.
func (p *probes) recognize(req *tunnel.Request, captured agent.Captured) bool {
	if !p.comesIn(captured) {
		return false
	}
	if flow, err := req.Accept(); err == nil {
		_ = flow.Close()
	}
	return true
}

// capturedOf reads what the agent says of a connection; what it does not say is
// zero.
func capturedOf(req *tunnel.Request) (captured agent.Captured) {
	_ = json.Unmarshal(req.Target().Meta, &captured)
	return captured
}

func (p *probes) comesIn(captured agent.Captured) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for mark, came := range p.expected {
		if !(agent.ProbeRequest{MSS: mark}).Announced(captured.MSS) {
			continue
		}
		select {
		case <-came:
		default:
			close(came)
		}
		return true
	}
	return false
}
