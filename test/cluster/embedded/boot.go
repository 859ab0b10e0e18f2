package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
)

// bootLimit is far above what a boot takes; a slower one hangs.
const bootLimit = 3 * time.Minute

// boot makes a cluster where none is. On failure everything is taken down
// again but the logs, which the error names.
func boot(ctx context.Context, opt Options, built components) (*Cluster, error) {
	begin := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, bootLimit, fmt.Errorf("the cluster is not up after %s", bootLimit))
	defer cancel()
	opt.logf("booting Kubernetes v%s with two nodes in %s", kubernetesVersion, opt.Dir)
	c := newCluster(opt, &state{Name: opt.Name, Components: built, Processes: map[string]*component{}})
	err := c.boot(ctx)
	if err == nil {
		err = c.update(func(s *state) { s.Ready, s.Booted, s.Boot = true, time.Now(), time.Since(begin) })
	}
	if err != nil {
		logs := filepath.Join(os.TempDir(), opt.Name+"-failed-boot")
		_ = os.RemoveAll(logs)
		_ = os.CopyFS(logs, os.DirFS(opt.path("log")))
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownLimit)
		defer cancel()
		if down := teardown(clean, opt); down != nil {
			return nil, fmt.Errorf("boot the cluster: %w (logs: %s; and to take it down: %w)", err, logs, down)
		}
		return nil, fmt.Errorf("boot the cluster: %w (logs: %s)", err, logs)
	}
	opt.logf("up after %.1f s: both nodes Ready, DNS answers", time.Since(begin).Seconds())
	return c, nil
}

// prepare makes the folder and writes the first state.
func (c *Cluster) prepare(ctx context.Context) error {
	c.mu.Lock()
	built := c.state.Components
	c.mu.Unlock()
	if err := c.opt.makeDirs(built); err != nil {
		return err
	}
	if err := c.update(func(*state) {}); err != nil {
		return err
	}
	// The laptops' mount namespaces are held by files here; such files can
	// only lie on a mount that propagates nowhere.
	ns := c.opt.path("ns")
	_, err := c.run(ctx, "", "mount", "--bind", "--make-private", ns, ns)
	return err
}

func (c *Cluster) boot(ctx context.Context) error {
	if err := c.prepare(ctx); err != nil {
		return err
	}
	steps, all := errgroup.WithContext(ctx)
	steps.Go(c.opt.writeIdentities)
	steps.Go(c.opt.writeConfigs)
	steps.Go(c.opt.makeCgroups)
	steps.Go(func() error { return c.makeNetwork(all) })
	if err := steps.Wait(); err != nil {
		return err
	}
	if err := c.startInit(ctx); err != nil {
		return err
	}
	return c.bootComponents(ctx)
}

// bootComponents starts what waits for nothing at once, and the rest when the
// API server is ready.
func (c *Cluster) bootComponents(ctx context.Context) error {
	control := c.opt.control()
	for _, p := range control[:2] { // etcd and the API server, which waits for it
		if err := c.start(ctx, p); err != nil {
			return err
		}
	}
	admin, err := c.client("admin")
	if err != nil {
		return err
	}
	alice, err := c.client("alice")
	if err != nil {
		return err
	}
	steps, all := errgroup.WithContext(ctx)
	ready := make(chan struct{})
	steps.Go(func() error {
		if err := c.bootControl(all, control[2:], admin, ready); err != nil {
			return err
		}
		return wait(all, "alice's rights", func(ctx context.Context) error { return editWorks(ctx, alice) }, c.ended)
	})
	for _, n := range nodes() {
		steps.Go(func() error { return c.bootNode(all, n, ready) })
	}
	steps.Go(func() error {
		_, err := c.newLaptop(all, defaultLaptop, process{})
		return err
	})
	if err := steps.Wait(); err != nil {
		return err
	}
	return c.settled(ctx, admin)
}

// bootControl waits for the API server, closes ready when kubelets may come,
// and starts and makes the rest.
func (c *Cluster) bootControl(ctx context.Context, rest []program, admin kubernetes.Interface, ready chan<- struct{}) error {
	if err := wait(ctx, "the API server", func(ctx context.Context) error { return apiReady(ctx, admin) }, c.ended); err != nil {
		return err
	}
	c.opt.Log("the API server is ready")
	for _, n := range nodes() {
		if err := registerNode(ctx, admin, n); err != nil {
			return err
		}
	}
	close(ready)
	for _, p := range rest {
		if err := c.start(ctx, p); err != nil {
			return err
		}
	}
	return c.applyObjects(ctx)
}

// bootNode starts a node; its kubelet after the API server is ready.
func (c *Cluster) bootNode(ctx context.Context, n node, apiReady <-chan struct{}) error {
	programs := c.opt.programs(n)
	if err := c.start(ctx, programs[0]); err != nil {
		return err
	}
	if err := c.runtimeReady(ctx, n, c.ended); err != nil {
		return err
	}
	c.mu.Lock()
	images := c.state.Components.images()
	c.mu.Unlock()
	for _, image := range images {
		if err := c.importImage(ctx, n, image); err != nil {
			return err
		}
	}
	select {
	case <-apiReady:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := c.startKubelet(ctx, programs[1]); err != nil {
		return err
	}
	return c.start(ctx, programs[2])
}

// devicePlugins is where a kubelet listens for device plugins, whatever its folder.
const devicePlugins = "/var/lib/kubelet/device-plugins/kubelet.sock"

// startKubelet starts kubelets one after the other: each clears the folder of
// devicePlugins before it listens there, and ends if another comes in between.
func (c *Cluster) startKubelet(ctx context.Context, p program) error {
	c.kubelets.Lock()
	defer c.kubelets.Unlock()
	if err := c.start(ctx, p); err != nil {
		return err
	}
	c.mu.Lock()
	started := c.state.Processes[p.name].process
	c.mu.Unlock()
	return wait(ctx, p.name, func(context.Context) error {
		// The sockets of its network namespace, which is its node's alone.
		sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", started.PID))
		if err != nil || strings.Contains(string(sockets), " "+devicePlugins+"\n") {
			return err
		}
		return errors.New("it does not listen for device plugins")
	}, c.ended)
}

// settled waits until the cluster is fit for use.
func (c *Cluster) settled(ctx context.Context, admin kubernetes.Interface) error {
	if err := wait(ctx, "the nodes", func(ctx context.Context) error { return nodesReady(ctx, admin) }, c.ended); err != nil {
		return err
	}
	c.opt.Log("both nodes are Ready")
	return wait(ctx, "the cluster's DNS", c.dnsAnswers, c.ended)
}

func (c *Cluster) ctr(n node, args ...string) []string {
	return append([]string{"ctr", "--address", c.opt.path(n.name, "containerd.sock"), "--namespace", "k8s.io"}, args...)
}

func (c *Cluster) runtimeReady(ctx context.Context, n node, failed func() error) error {
	return wait(ctx, "containerd of "+n.name, func(ctx context.Context) error {
		_, err := c.run(ctx, "", c.ctr(n, "version")...)
		return err
	}, failed)
}

func (c *Cluster) importImage(ctx context.Context, n node, tar string) error {
	if _, err := c.run(ctx, "", c.ctr(n, "images", "import", tar)...); err != nil {
		return fmt.Errorf("load %s into %s: %w", tar, n.name, err)
	}
	return nil
}
