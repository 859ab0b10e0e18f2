package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Up returns the running cluster, booting it if there is none, and again if
// what is there cannot be repaired. Rights and namespaces are as documented on
// return, whatever was done to them before.
func Up(ctx context.Context, opt Options) (*Cluster, error) {
	opt, err := opt.complete()
	if err != nil {
		return nil, err
	}
	if err := thisMachine().require(ctx, clusterTools(), opt.Log); err != nil {
		return nil, err
	}
	built, err := build(ctx, parts(), opt.Log)
	if err != nil {
		return nil, err
	}
	unlock, err := opt.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if c, err := revive(ctx, opt, built); err == nil {
		return c, nil
	} else if ctx.Err() != nil {
		return nil, err // the caller gave up, which is no reason to take a cluster down
	} else if !errors.Is(err, ErrNotRunning) {
		opt.logf("booting anew: %v", err)
	}
	if err := teardown(ctx, opt); err != nil {
		return nil, err
	}
	return boot(ctx, opt, built)
}

// reviveLimit bounds how long a half-dead cluster is tried to be mended.
const reviveLimit = 45 * time.Second

// revive returns the cluster that is there, after starting what has ended.
func revive(ctx context.Context, opt Options, built components) (*Cluster, error) {
	c, err := open(opt)
	if err != nil {
		return nil, err
	}
	if err := c.here("boot"); err != nil {
		return nil, err
	}
	if c.state.Components["kube"] != built["kube"] || c.state.Components["coredns"] != built["coredns"] {
		return nil, errors.New("its components are of another version")
	}
	// What an older warden started goes on; the new one starts what comes.
	if err := c.update(func(s *state) { s.Components = built }); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, reviveLimit)
	defer cancel()
	if err := c.startEnded(ctx); err != nil {
		return nil, err
	}
	admin, err := c.client("admin")
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, "the API server", func(ctx context.Context) error { return apiReady(ctx, admin) }, c.ended); err != nil {
		return nil, err
	}
	if err := c.applyObjects(ctx); err != nil {
		return nil, err
	}
	if err := wait(ctx, "the nodes", func(ctx context.Context) error { return nodesReady(ctx, admin) }, c.ended); err != nil {
		return nil, err
	}
	if err := wait(ctx, "the cluster's DNS", c.dnsAnswers, c.ended); err != nil {
		return nil, err
	}
	if l := c.Laptop(defaultLaptop); !l.whole() {
		if err := c.removeLaptop(ctx, defaultLaptop); err != nil {
			return nil, err
		}
		if _, err := c.newLaptop(ctx, defaultLaptop, process{}); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Open returns the running cluster, or ErrNotRunning.
func Open(ctx context.Context, opt Options) (*Cluster, error) {
	opt, err := opt.complete()
	if err != nil {
		return nil, err
	}
	if err := thisMachine().allowed(); err != nil {
		return nil, err
	}
	return open(opt)
}

func open(opt Options) (*Cluster, error) {
	s, err := loadState(opt.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is none in %s", ErrNotRunning, opt.Dir)
	}
	if err != nil {
		return nil, err
	}
	if s.Name != opt.Name {
		return nil, fmt.Errorf("the cluster in %s is called %q, not %q", opt.Dir, s.Name, opt.Name)
	}
	switch {
	case !s.Ready:
		return nil, errors.New("its boot did not go through")
	case !s.Init.alive():
		return nil, fmt.Errorf("%w: its process 1 is gone", ErrNotRunning)
	}
	return newCluster(opt, s), nil
}

// Down removes the cluster and all it left, whatever state it is in.
func Down(ctx context.Context, opt Options) error {
	opt, err := opt.complete()
	if err != nil {
		return err
	}
	if err := thisMachine().allowed(); err != nil {
		return err
	}
	unlock, err := opt.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return teardown(ctx, opt)
}

// Kubeconfig is the path of a user's: admin, alice or bob. The address in it
// is reachable from the cluster and from laptops, not from the machine itself.
func (c *Cluster) Kubeconfig(user string) string { return c.opt.kubeconfig(user) }

// CheckUser is an error when there is no such user.
func (c *Cluster) CheckUser(user string) error {
	if _, err := os.Stat(c.Kubeconfig(user)); err != nil {
		return fmt.Errorf("user %q: the cluster has admin, alice and bob", user)
	}
	return nil
}

// RESTConfig is a client configuration that works from this process: it dials
// inside the cluster's network. It has no rate limit. Upgraded connections
// (exec, port-forward) do not dial with it: use Command for these.
func (c *Cluster) RESTConfig(user string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig(user))
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig of %s: %w", user, err)
	}
	config.Dial = c.Dial
	config.QPS = -1
	return config, nil
}

func (c *Cluster) client(user string) (kubernetes.Interface, error) {
	config, err := c.RESTConfig(user)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// Dial dials a literal address from node1, which reaches everything.
func (c *Cluster) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return dialIn(ctx, c.ClusterNetNS(), network, address)
}

// Listen listens in node1's network namespace.
func (c *Cluster) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return listenIn(ctx, c.ClusterNetNS(), network, address)
}

// ClusterNetNS is the file of the network namespace of the control plane and node1.
func (c *Cluster) ClusterNetNS() string { return netnsPath(c.opt.netns()) }

// Kubectl is the path of a kubectl of the cluster's version.
func (c *Cluster) Kubectl() string { return c.opt.path("bin", "kubectl") }

// Dir is the state folder; log/ in it has a file for each component.
func (c *Cluster) Dir() string { return c.opt.Dir }

// AuditLog is the API server's record of what alice, bob and the
// ServiceAccounts of their namespaces asked for, one JSON event a line.
func (c *Cluster) AuditLog() string { return c.opt.auditLog() }

// Load imports an image archive (docker-archive or OCI layout, as a tar file)
// into both nodes. Pods use it with imagePullPolicy IfNotPresent and a tag
// that is not latest.
func (c *Cluster) Load(ctx context.Context, tar string) error {
	if err := c.here("load an image"); err != nil {
		return err
	}
	if _, err := os.Stat(tar); err != nil {
		return err
	}
	steps, all := errgroup.WithContext(ctx)
	for _, n := range nodes() {
		steps.Go(func() error { return c.importImage(all, n, tar) })
	}
	return steps.Wait()
}

// Command is a command in node1's network, which reaches everything, with the
// kubeconfig of user ("" for none).
func (c *Cluster) Command(ctx context.Context, user string, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + c.ClusterNetNS(), "--"}, argv...)...)
	config := os.DevNull
	if user != "" {
		config = c.Kubeconfig(user)
	}
	cmd.Env = append(os.Environ(), "KUBECONFIG="+config)
	return cmd
}

// KubectlCommand is the cluster's kubectl, reaching the API server.
func (c *Cluster) KubectlCommand(ctx context.Context, user string, args ...string) *exec.Cmd {
	return c.Command(ctx, user, append([]string{c.Kubectl()}, args...)...)
}
