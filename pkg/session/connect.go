package session

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// ConnectSpec is what connect is asked for.
type ConnectSpec struct {
	// AgentImage is the image of the session's own agent.
	AgentImage string `json:"agentImage"`
	// Timeout bounds bringing the network up, the helper's password prompt
	// not counted.
	Timeout time.Duration `json:"timeout"`
}

// Connect makes the laptop part of the cluster's network. It returns when
// names answer, or undoes what it did. A session that is connected already
// answers at once, unless its helper is gone: then it connects anew.
func (s *Session) Connect(ctx context.Context, spec ConnectSpec, p Progress) (err error) {
	s.mu.Lock()
	switch {
	case s.closed:
		err = errors.New("this session is ending")
	case s.connecting:
		err = errors.New("another connect is in progress")
	}
	old := s.network
	connected := old != nil && !old.host.helperGone()
	if err == nil && !connected {
		s.connecting, s.network = true, nil
	}
	s.mu.Unlock()
	if err != nil || connected {
		return err
	}
	if old != nil {
		p.warn("the privileged helper was gone: connecting anew")
		if err := old.close(ctx, nil); err != nil {
			s.log.Warn("the network without a helper was not taken down cleanly", "err", err)
		}
	}
	n := &network{session: s, spec: spec}
	err = n.up(ctx, p)
	s.mu.Lock()
	s.connecting = false
	if err == nil && s.closed {
		err = errors.New("this session is ending")
	}
	if err == nil {
		s.network = n
	}
	s.mu.Unlock()
	if err != nil {
		return errors.Join(err, n.close(context.WithoutCancel(ctx), nil))
	}
	return nil
}

// localLimit bounds TUN, routes and DNS, which take milliseconds.
const localLimit = 20 * time.Second

// network is the laptop's part in the cluster: own agent, tunnel, TUN, routes
// and DNS. up is called once, close any number of times.
type network struct {
	session *Session
	spec    ConnectSpec

	agent  *ownAgent
	host   *hostNetwork
	ranges clusterRanges

	closeOnce sync.Once
	closeErr  error
}

// clusterRanges is what of the cluster is routed into the tunnel.
type clusterRanges struct {
	services, pods, skipped []netip.Prefix
}

func (n *network) up(ctx context.Context, p Progress) error {
	s := n.session
	started := time.Now()
	limit := fmt.Errorf("the cluster did not do its part within %s", n.spec.Timeout)
	var (
		info     api.Info
		services []netip.Prefix
		pods     []netip.Prefix
	)
	group, groupCtx := errgroup.WithContext(ctx)
	clusterCtx, cancel := context.WithTimeoutCause(groupCtx, n.spec.Timeout, limit)
	defer cancel()
	// late says of an error in the cluster's part that time was up.
	late := func(err error) error {
		// client-go gives up a little before a deadline that it cannot keep.
		deadline, _ := clusterCtx.Deadline()
		if err == nil || !errors.Is(context.Cause(clusterCtx), limit) && time.Now().Before(deadline) {
			return err
		}
		return hint.With(fmt.Errorf("%w: %w", limit, err), "--timeout gives it more time")
	}
	group.Go(func() (err error) {
		defer func() { err = late(err) }()
		p.doing("starting an agent in namespace " + s.cfg.Namespace)
		if n.agent, err = s.startOwnAgent(clusterCtx, n.spec.AgentImage, p); err != nil {
			return err
		}
		if info, err = n.agent.info(clusterCtx); err != nil {
			return err
		}
		p.done(fmt.Sprintf("agent %s answers on %s (%s)", n.agent.pod(), n.agent.status().Node, time.Since(started).Round(10*time.Millisecond)))
		pods, err = podRanges(clusterCtx, s.client, s.cfg.Namespace, info)
		return err
	})
	group.Go(func() (err error) {
		defer func() { err = late(err) }()
		// The first to notice that there is no answer at all.
		askCtx, cancel := context.WithTimeoutCause(clusterCtx, apiTimeout, fmt.Errorf("the API server did not answer within %s", apiTimeout))
		defer cancel()
		services, err = serviceRanges(askCtx, s.client, s.cfg.Namespace)
		return err
	})
	// The password prompt is a person's time, so it has a limit of its own.
	group.Go(func() (err error) {
		n.host, err = openHost(groupCtx, s.cfg.Dir, s.log, p)
		return err
	})
	if err := group.Wait(); err != nil {
		return s.explain(ctx, err, access.Connect)
	}
	localCtx, cancelLocal := context.WithTimeoutCause(ctx, localLimit,
		fmt.Errorf("this machine's network was not set up within %s", localLimit))
	defer cancelLocal()
	for _, addr := range info.Nameservers {
		services = append(services, netip.PrefixFrom(addr, addr.BitLen()))
	}
	ranges, err := s.choose(localCtx, services, pods)
	if err != nil {
		return err
	}
	n.ranges = ranges
	if len(ranges.skipped) > 0 {
		p.warn(fmt.Sprintf("this machine already routes %v elsewhere; those cluster addresses are not reachable", ranges.skipped))
	}
	if len(info.Nameservers) == 0 {
		return hint.With(fmt.Errorf("agent %s knows no cluster DNS server", n.agent.pod()), "look at /etc/resolv.conf of a pod in namespace "+s.cfg.Namespace)
	}
	if err := n.host.start(localCtx, hostSpec{
		namespace: s.cfg.Namespace,
		info:      info,
		ranges:    ranges,
		link:      n.agent,
		avoid:     serverAddrs(localCtx, s.cfg.Server),
	}); err != nil {
		return err
	}
	p.done(fmt.Sprintf("network and DNS set up (%s)", time.Since(started).Round(10*time.Millisecond)))
	return nil
}

// choose turns what the cluster says into routes that take nothing away from
// the laptop.
func (s *Session) choose(ctx context.Context, services, pods []netip.Prefix) (clusterRanges, error) {
	existing, err := existingRoutes()
	if err != nil {
		return clusterRanges{}, err
	}
	services = compact(services)
	pods = compact(pods)
	for _, addr := range serverAddrs(ctx, s.cfg.Server, s.cfg.proxy()) {
		services, pods = without(services, addr), without(pods, addr)
	}
	var out clusterRanges
	var taken []netip.Prefix
	out.services, out.skipped = dropOverlapping(services, existing)
	out.pods, taken = dropOverlapping(pods, existing)
	out.skipped = append(out.skipped, taken...)
	if len(out.services) == 0 && len(out.pods) == 0 {
		return out, hint.With(fmt.Errorf("this machine already routes all of the cluster's addresses %v elsewhere", out.skipped),
			"leave the VPN or network that holds them, and connect again")
	}
	return out, nil
}

func (n *network) status() NetworkStatus {
	st := NetworkStatus{
		Agent:    n.agent.status(),
		Services: n.ranges.services, Pods: n.ranges.pods, Skipped: n.ranges.skipped,
	}
	n.host.fill(&st)
	return st
}

// close takes the network down: DNS and routes first, then the tunnel, then
// the agent's Job.
func (n *network) close(ctx context.Context, p Progress) error {
	n.closeOnce.Do(func() {
		var errs []error
		if n.host != nil {
			errs = append(errs, n.host.close())
			p.done("network and DNS put back")
		}
		if n.agent != nil {
			errs = append(errs, n.agent.close(ctx))
			p.done("agent " + n.agent.pod() + " removed")
		}
		n.closeErr = errors.Join(errs...)
	})
	return n.closeErr
}
