package embedded

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Components lists the programs that make up the cluster: etcd,
// kube-apiserver, kube-controller-manager, kube-scheduler, and containerd,
// kubelet and kube-proxy of each node, as in "kubelet-node1".
func (c *Cluster) Components() []string {
	var names []string
	for _, p := range c.programs() {
		names = append(names, p.name)
	}
	return names
}

func (c *Cluster) programs() []program {
	if c.IsForeign() {
		return []program{c.relay()}
	}
	all := c.opt.control()
	for _, n := range nodes() {
		all = append(all, c.opt.programs(n)...)
	}
	return all
}

func (c *Cluster) program(name string) (program, error) {
	if err := c.here("component " + name); err != nil {
		return program{}, err
	}
	all := c.programs()
	i := slices.IndexFunc(all, func(p program) bool { return p.name == name })
	if i < 0 {
		return program{}, fmt.Errorf("component %q: the cluster has %v", name, c.Components())
	}
	return all[i], nil
}

// Restart stops a component as an operator would and starts it again. The API
// server and containerd are ready on return; others may need a moment.
func (c *Cluster) Restart(ctx context.Context, name string) error {
	if err := c.Stop(ctx, name); err != nil {
		return err
	}
	return c.Start(ctx, name)
}

// Stop ends a component: SIGTERM, and after 5 s SIGKILL.
func (c *Cluster) Stop(ctx context.Context, name string) error {
	return c.end(ctx, name, 5*time.Second)
}

// Kill ends a component with SIGKILL.
func (c *Cluster) Kill(ctx context.Context, name string) error { return c.end(ctx, name, 0) }

func (c *Cluster) end(ctx context.Context, name string, grace time.Duration) error {
	if _, err := c.program(name); err != nil {
		return err
	}
	unlock, err := c.locked(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return c.endLocked(ctx, name, grace)
}

func (c *Cluster) endLocked(ctx context.Context, name string, grace time.Duration) error {
	var running process
	c.view(func(s *state) {
		if p := s.Processes[name]; p != nil {
			running = p.process
		}
	})
	if err := stop(ctx, running, grace); err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	return nil
}

// Start starts a component that was stopped or killed.
func (c *Cluster) Start(ctx context.Context, name string) error {
	p, err := c.program(name)
	if err != nil {
		return err
	}
	unlock, err := c.locked(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return c.startLocked(ctx, p)
}

func (c *Cluster) startLocked(ctx context.Context, p program) error {
	running := false
	c.view(func(s *state) { running = s.Processes[p.name] != nil && s.Processes[p.name].alive() })
	if running {
		return nil
	}
	if err := c.start(ctx, p); err != nil {
		return err
	}
	ended := func() error { return c.endedNow(p.name) }
	for _, n := range nodes() {
		if p.name == "containerd-"+n.name {
			return c.runtimeReady(ctx, n, ended) // a kubelet that comes earlier gives up
		}
	}
	if p.name != "kube-apiserver" {
		return nil
	}
	admin, err := c.client("admin")
	if err != nil {
		return err
	}
	return wait(ctx, "the API server", func(ctx context.Context) error { return apiReady(ctx, admin) }, ended)
}

// endedNow is an error when this component does not run.
func (c *Cluster) endedNow(name string) (err error) {
	c.view(func(s *state) {
		if p := s.Processes[name]; p == nil || !p.alive() {
			err = fmt.Errorf("%s does not run%s", name, c.logTail(name))
		}
	})
	return err
}

// startEnded starts every component that does not run.
func (c *Cluster) startEnded(ctx context.Context) error {
	for _, p := range c.programs() {
		if err := c.startLocked(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// powerOffLimit bounds the end of processes that have been killed.
const powerOffLimit = 30 * time.Second

// StopNode takes a node's power: its kubelet, its runtime and all its pods
// are killed at once, and tell nobody.
func (c *Cluster) StopNode(ctx context.Context, name string) error {
	if err := c.here(name); err != nil {
		return err
	}
	n, err := nodeNamed(name)
	if err != nil {
		return err
	}
	unlock, err := c.locked(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	list := func() []int {
		return append(cgroupProcesses(c.opt.systemCgroup(n)), cgroupProcesses(c.opt.podsCgroup(n))...)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, powerOffLimit, fmt.Errorf("not within %s", powerOffLimit))
	defer cancel()
	// Until none is left at all: one that has ended may not be reaped yet.
	return wait(ctx, "the end of "+name+"'s processes", func(ctx context.Context) error {
		if err := killAll(ctx, list); err != nil {
			return err
		}
		if left := list(); len(left) > 0 {
			return fmt.Errorf("processes %v are left", left)
		}
		return nil
	}, nil)
}

// StartNode gives it back. Its pods are made again by its kubelet.
func (c *Cluster) StartNode(ctx context.Context, name string) error {
	if err := c.here(name); err != nil {
		return err
	}
	n, err := nodeNamed(name)
	if err != nil {
		return err
	}
	unlock, err := c.locked(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, p := range c.opt.programs(n) {
		if err := c.startLocked(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// locked takes the cluster's lock and reads the state again, which another
// process may have changed.
func (c *Cluster) locked(ctx context.Context) (unlock func(), err error) {
	unlock, err = c.opt.lock(ctx)
	if err != nil {
		return nil, err
	}
	s, err := loadState(c.opt.Dir)
	if err != nil {
		unlock()
		return nil, err
	}
	c.mu.Lock()
	c.state = s
	c.mu.Unlock()
	return unlock, nil
}
