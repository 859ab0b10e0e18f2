package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"k8s.io/client-go/tools/clientcmd"
)

// Foreign is a cluster that is elsewhere.
type Foreign struct {
	// Kubeconfig is the file of somebody who may make namespaces and bindings there.
	Kubeconfig string
	// NetNS is the file of the network namespace that reaches its API server;
	// empty: this process's own.
	NetNS string
}

// foreign is what is kept of a foreign cluster.
type foreign struct {
	Server string   `json:"server"` // host:port
	NetNS  string   `json:"netns"`
	Made   []string `json:"made"` // namespaces there, which Release deletes
}

// ErrForeign is returned for what can only be done to a cluster that runs here.
var ErrForeign = errors.New("not possible on a cluster that is elsewhere")

// foreignName keeps what is made for a foreign cluster apart from the shared one.
const foreignName = "teleforeign"

// Attach makes laptops possible for a foreign cluster, and the namespaces and
// users of the embedded one in it. Its API server is reached at the address
// the embedded one has, through a relay, so that laptops have the same network
// and kubeconfigs look the same. Default for opt.Name: "teleforeign".
func Attach(ctx context.Context, opt Options, to Foreign) (*Cluster, error) {
	if opt.Name == "" {
		opt.Name = foreignName
	}
	if opt.Dir == "" { // $TELE_CLUSTER_DIR is the embedded cluster's
		cache, err := cacheDir()
		if err != nil {
			return nil, err
		}
		opt.Dir = filepath.Join(cache, opt.Name)
	}
	opt, err := opt.complete()
	if err != nil {
		return nil, err
	}
	if err := thisMachine().require(ctx, laptopTools(), opt.Log); err != nil {
		return nil, err
	}
	built, err := build(ctx, parts()[:1], opt.Log)
	if err != nil {
		return nil, err
	}
	server, err := serverOf(to.Kubeconfig)
	if err != nil {
		return nil, err
	}
	unlock, err := opt.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	target := foreign{Server: server, NetNS: to.NetNS}
	c, err := attached(opt, built, target)
	fresh := err != nil
	if fresh {
		if c, err = attach(ctx, opt, built, target); err != nil {
			return nil, err
		}
	}
	if err := c.makeForeignUsers(ctx, to.Kubeconfig); err != nil {
		err = fmt.Errorf("prepare the cluster at %s: %w", server, err)
		if fresh {
			err = errors.Join(err, c.release(context.WithoutCancel(ctx)))
		}
		return nil, err
	}
	return c, nil
}

// serverOf is the host and port of a kubeconfig's API server.
func serverOf(kubeconfig string) (string, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(config.Host)
	if err != nil {
		return "", fmt.Errorf("kubeconfig %s: server %q: %w", kubeconfig, config.Host, err)
	}
	if u.Scheme != "https" {
		return "", fmt.Errorf("kubeconfig %s: server %q: want https", kubeconfig, config.Host)
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// attached returns what an earlier Attach left, if it is whole.
func attached(opt Options, built components, target foreign) (*Cluster, error) {
	c, err := open(opt)
	if err != nil {
		return nil, err
	}
	f := c.state.Foreign
	if f == nil || f.Server != target.Server || f.NetNS != target.NetNS || !maps.Equal(c.state.Components, built) {
		return nil, errors.New("attached to another cluster")
	}
	if !c.Laptop(defaultLaptop).whole() {
		return nil, errors.New("the laptop is not whole")
	}
	return c, c.ended()
}

func attach(ctx context.Context, opt Options, built components, target foreign) (*Cluster, error) {
	if s, err := loadState(opt.Dir); err == nil && s.Foreign != nil {
		target.Made = s.Foreign.Made
	}
	if err := teardown(ctx, opt); err != nil {
		return nil, err
	}
	opt.logf("attaching to the cluster at %s", target.Server)
	c := newCluster(opt, &state{Name: opt.Name, Components: built, Foreign: &target, Processes: map[string]*component{}})
	if err := c.attach(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("attach to the cluster at %s: %w", target.Server, err), teardown(context.WithoutCancel(ctx), opt))
	}
	return c, c.update(func(s *state) { s.Ready = true })
}

func (c *Cluster) attach(ctx context.Context) error {
	if err := c.prepare(ctx); err != nil {
		return err
	}
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		return fmt.Errorf("a foreign cluster is used with the machine's own kubectl: %w", err)
	}
	if err := os.Symlink(kubectl, c.Kubectl()); err != nil {
		return err
	}
	if err := c.opt.makeCgroups(); err != nil {
		return err
	}
	if err := c.opt.makeNetNS(ctx, c.run, c.opt.netns()); err != nil {
		return err
	}
	plan := ipBatch{c.opt.netns(), []string{"link set lo up", "addr add " + apiAddress + "/32 dev lo"}}
	if err := plan.apply(ctx, c.run); err != nil {
		return err
	}
	if err := c.startInit(ctx); err != nil {
		return err
	}
	for _, p := range c.programs() {
		if err := c.start(ctx, p); err != nil {
			return err
		}
	}
	_, err = c.newLaptop(ctx, defaultLaptop, process{})
	return err
}

// relay carries connections from the API server's usual address to where the
// foreign one is.
func (c *Cluster) relay() program {
	var f foreign
	var warden string
	c.view(func(s *state) { f, warden = *s.Foreign, s.Components.warden() })
	return program{"relay", component{
		NetNS: f.NetNS, Cgroup: c.opt.controlCgroup(), Argv: []string{warden, "relay", "-to=" + f.Server},
		Listen: net.JoinHostPort(apiAddress, apiPort),
	}}
}

// IsForeign says whether the cluster is elsewhere.
func (c *Cluster) IsForeign() (yes bool) {
	c.view(func(s *state) { yes = s.Foreign != nil })
	return yes
}

// here is ErrForeign for a foreign cluster.
func (c *Cluster) here(what string) error {
	if c.IsForeign() {
		return fmt.Errorf("%s: %w", what, ErrForeign)
	}
	return nil
}

// Release gives a foreign cluster back: the namespaces made there are deleted,
// and what was made here is removed. It does nothing to a cluster that runs here.
func (c *Cluster) Release(ctx context.Context) error {
	if !c.IsForeign() {
		return nil
	}
	unlock, err := c.locked(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return c.release(ctx)
}

// release wants the lock held.
func (c *Cluster) release(ctx context.Context) error {
	var made []string
	c.view(func(s *state) { made = slices.Clone(s.Foreign.Made) })
	return errors.Join(c.deleteNamespaces(ctx, made), teardown(ctx, c.opt))
}
