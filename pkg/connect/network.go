// Package connect makes a laptop part of a cluster's network: it finds out which
// addresses and names are the cluster's, and leads them through an agent. It owns
// the order in which that is set up and undone. It does not own the agent (see
// pkg/cluster), the device and routes (pkg/tun), or DNS (pkg/dns).
package connect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// Config says how a Network is set up.
type Config struct {
	// Dir is the session's folder, in which the helper's socket is made.
	Dir string
	// Server is the URL of the API server, whose addresses are never routed
	// into the tunnel.
	Server string
	Spec   api.ConnectSpec
	// Shortcut connects to an address of the cluster that is served on this machine; it
	// returns nil for every other.
	Shortcut func(ctx context.Context, to netip.AddrPort) splice.Conn
}

// localLimit bounds setting up TUN, routes and DNS, which takes milliseconds.
const localLimit = 20 * time.Second

// Network is the laptop's part in the cluster's network: an agent of its own,
// and TUN, routes and DNS on this machine. Up is called once, and the caller
// calls Close in any case; Status is valid between a successful Up and Close.
type Network struct {
	cluster *cluster.Cluster
	cfg     Config

	agent  *cluster.OwnAgent
	host   *host
	ranges clusterRanges

	closeOnce sync.Once
	closeErr  error
}

// New returns a Network that is not up. It does not talk to the cluster.
func New(c *cluster.Cluster, cfg Config) *Network {
	return &Network{cluster: c, cfg: cfg}
}

// answers is what Up learns of the cluster.
type answers struct {
	info           agent.Info
	services, pods []netip.Prefix
}

// Up sets the network up and returns when the cluster's names answer. When it
// fails, Close undoes what it did.
func (n *Network) Up(ctx context.Context, p api.Progress) error {
	started := time.Now()
	known, err := n.prepare(ctx, p)
	if err != nil {
		return n.cluster.Explain(ctx, err, access.Connect)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, localLimit,
		fmt.Errorf("this machine's network was not set up within %s", localLimit))
	defer cancel()
	existing, err := existingRoutes()
	if err != nil {
		return err
	}
	for _, addr := range known.info.Nameservers {
		known.services = append(known.services, netip.PrefixFrom(addr, addr.BitLen()))
	}
	server := hostAddrs(ctx, n.cfg.Server)
	if n.ranges, err = chooseRanges(known.services, known.pods, existing, slices.Concat(server, hostAddrs(ctx, proxy()))); err != nil {
		return err
	}
	if len(n.ranges.skipped) > 0 {
		p.Warn(fmt.Sprintf("this machine already routes %v elsewhere; those cluster addresses are not reachable", n.ranges.skipped))
	}
	if len(known.info.Nameservers) == 0 {
		return hint.With(fmt.Errorf("agent %s knows no cluster DNS server", n.agent.Pod()), "look at /etc/resolv.conf of a pod in namespace "+n.cluster.Namespace())
	}
	if err := n.host.start(ctx, hostSpec{
		namespace: n.cluster.Namespace(),
		info:      known.info,
		ranges:    n.ranges,
		agent:     n.agent,
		shortcut:  n.cfg.Shortcut,
		avoid:     server,
	}); err != nil {
		return err
	}
	p.Done(fmt.Sprintf("network and DNS set up (%s)", time.Since(started).Round(10*time.Millisecond)))
	return nil
}

// prepare starts the agent, asks for the cluster's ranges, and has the privileged
// helper started, all at once.
func (n *Network) prepare(ctx context.Context, p api.Progress) (answers, error) {
	var known answers
	started := time.Now()
	limit := fmt.Errorf("the cluster did not do its part within %s", n.cfg.Spec.Timeout)
	group, groupCtx := errgroup.WithContext(ctx)
	clusterCtx, cancel := context.WithTimeoutCause(groupCtx, n.cfg.Spec.Timeout, limit)
	defer cancel()
	// timedOut adds to an error of the cluster's part that the time was up, if
	// it was.
	timedOut := func(err error) error {
		// client-go gives up a little before a deadline that it cannot keep.
		deadline, _ := clusterCtx.Deadline()
		if err == nil || !errors.Is(context.Cause(clusterCtx), limit) && time.Now().Before(deadline) {
			return err
		}
		return hint.With(fmt.Errorf("%w: %w", limit, err), "--timeout gives it more time")
	}
	group.Go(func() (err error) {
		defer func() { err = timedOut(err) }()
		p.Doing("starting an agent in namespace " + n.cluster.Namespace())
		if n.agent, err = n.cluster.StartOwnAgent(clusterCtx, n.cfg.Spec.AgentImage, p); err != nil {
			return err
		}
		if known.info, err = n.agent.Info(clusterCtx); err != nil {
			return err
		}
		p.Done(fmt.Sprintf("agent %s answers on %s (%s)", n.agent.Pod(), n.agent.Status().Node, time.Since(started).Round(10*time.Millisecond)))
		known.pods, err = podRanges(clusterCtx, n.cluster.Client(), n.cluster.Namespace(), known.info)
		return err
	})
	group.Go(func() (err error) {
		defer func() { err = timedOut(err) }()
		// Of all requests this one is the first to fail when nothing answers.
		askCtx, cancel := cluster.RequestContext(clusterCtx)
		defer cancel()
		known.services, err = serviceRanges(askCtx, n.cluster.Client(), n.cluster.Namespace())
		return err
	})
	// A person types the password, so this has a limit of its own.
	group.Go(func() (err error) {
		n.host, err = openHost(groupCtx, n.cfg.Dir, n.cluster.Log(), p)
		return err
	})
	err := group.Wait()
	return known, err
}

// Status returns what Up has set up and how it is now.
func (n *Network) Status() api.NetworkStatus {
	st := api.NetworkStatus{
		Agent:    n.agent.Status(),
		Services: n.ranges.services, Pods: n.ranges.pods, Skipped: n.ranges.skipped,
	}
	n.host.status(&st)
	return st
}

// Close takes the network down: DNS and routes first, then the tunnel, then the
// agent's Job. It may be called again.
func (n *Network) Close(ctx context.Context, p api.Progress) error {
	n.closeOnce.Do(func() {
		var errs []error
		if n.host != nil {
			errs = append(errs, n.host.close())
			p.Done("network and DNS put back")
		}
		if n.agent != nil {
			errs = append(errs, n.agent.Close(ctx))
			p.Done("agent " + n.agent.Pod() + " removed")
		}
		n.closeErr = errors.Join(errs...)
	})
	return n.closeErr
}
