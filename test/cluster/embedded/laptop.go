package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2/maybe"
)

// defaultLaptop exists as long as the cluster does.
const defaultLaptop = "default"

// maxLaptopName leaves room for short paths of unix sockets.
const maxLaptopName = 20

// Laptop is a place to run commands at that reaches the API server and nothing
// else of the cluster: a network namespace and a mount namespace of its own,
// with its own /etc/resolv.conf, /run and DNS server.
type Laptop struct {
	c    *Cluster
	name string
}

// laptopRecord is what is known about a laptop, in its folder.
type laptopRecord struct {
	Index    int     `json:"index"`    // chooses its network
	Owner    process `json:"owner"`    // whose end is the laptop's; zero: the cluster itself
	Resolver process `json:"resolver"` // its DNS server
}

// Laptop is the laptop of this name; "default" is always there.
func (c *Cluster) Laptop(name string) *Laptop { return &Laptop{c: c, name: name} }

// NewLaptop makes a laptop for this process. Close it; one whose process has
// died without is removed by a later NewLaptop.
func (c *Cluster) NewLaptop(ctx context.Context, name string) (*Laptop, error) {
	if len(name) > maxLaptopName || !nameSyntax.MatchString(name) {
		return nil, fmt.Errorf("laptop name %q: want up to %d lower case letters and digits", name, maxLaptopName)
	}
	owner, err := identify(os.Getpid())
	if err != nil {
		return nil, err
	}
	unlock, err := c.opt.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, other := range c.Laptops() {
		record, err := c.Laptop(other).load()
		if errors.Is(err, fs.ErrNotExist) || err == nil && record.Owner.PID != 0 && !record.Owner.alive() {
			if err := c.removeLaptop(ctx, other); err != nil {
				return nil, err
			}
		}
	}
	return c.newLaptop(ctx, name, owner)
}

// Laptops lists the names of the laptops there are.
func (c *Cluster) Laptops() []string {
	entries, err := os.ReadDir(c.opt.path("l"))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// laptopMounts runs in a laptop's new mount namespace. All of /run is hidden,
// not least so that nothing there can reach the machine's own resolver
// daemons; what is written to /var/lib stays at the laptop. As on a usual system, everybody
// may use FUSE.
const laptopMounts = `set -e
resolv=$(readlink -m /etc/resolv.conf)
umount -R -l /run 2>/dev/null || true
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/netns /run/var-lib/upper /run/var-lib/work
mount -t overlay -o lowerdir=/var/lib,upperdir=/run/var-lib/upper,workdir=/run/var-lib/work overlay /var/lib
mkdir -p "$(dirname "$resolv")"
[ -e "$resolv" ] || : >"$resolv"
mount --bind "$RESOLV" "$resolv"
mknod -m 666 /run/fuse c 10 229
mount --bind /run/fuse /dev/fuse
`

// newLaptop wants the cluster's lock held.
func (c *Cluster) newLaptop(ctx context.Context, name string, owner process) (_ *Laptop, err error) {
	l := c.Laptop(name)
	if _, err := os.Stat(l.dir()); err == nil {
		return nil, fmt.Errorf("laptop %s: there is one of this name", name)
	}
	record := laptopRecord{Index: c.freeIndex(), Owner: owner}
	for _, dir := range []string{"run", "cache", "state"} {
		if err := os.MkdirAll(l.path(dir), 0o700); err != nil {
			return nil, err
		}
	}
	if err := l.save(record); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.removeLaptop(context.WithoutCancel(ctx), name))
		}
	}()
	if err := os.WriteFile(l.resolvFile(), []byte(l.ResolvConf()), 0o644); err != nil {
		return nil, err
	}
	plan, err := c.opt.laptopPlan(l.netns(), l.link(record), record.Index)
	if err != nil {
		return nil, err
	}
	if err := c.opt.makeNetNS(ctx, c.run, l.netns()); err != nil {
		return nil, err
	}
	for _, batch := range plan {
		if err := batch.apply(ctx, c.run); err != nil {
			return nil, err
		}
	}
	if err := l.makeMounts(ctx); err != nil {
		return nil, err
	}
	record.Resolver, err = c.launch(ctx, l.resolver())
	if err != nil {
		return nil, err
	}
	if err := l.save(record); err != nil {
		return nil, err
	}
	err = wait(ctx, "the resolver of laptop "+name, func(ctx context.Context) error {
		_, err := l.ResolverCounts(ctx)
		return err
	}, nil)
	return l, err
}

func (l *Laptop) makeMounts(ctx context.Context) error {
	if err := os.WriteFile(l.MountNS(), nil, 0o600); err != nil {
		return err
	}
	if _, err := l.c.run(ctx, "", "unshare", "--mount="+l.MountNS(), "--propagation=private", "true"); err != nil {
		return err
	}
	_, err := l.c.run(ctx, laptopMounts, "nsenter", "--mount="+l.MountNS(), "env", "RESOLV="+l.resolvFile(), "sh")
	return err
}

// freeIndex is the lowest that no laptop has.
func (c *Cluster) freeIndex() int {
	var taken []int
	for _, name := range c.Laptops() {
		if record, err := c.Laptop(name).load(); err == nil {
			taken = append(taken, record.Index)
		}
	}
	i := 0
	for slices.Contains(taken, i) {
		i++
	}
	return i
}

// Close ends every process at the laptop and removes it. The default one stays.
func (l *Laptop) Close(ctx context.Context) error {
	if l.name == defaultLaptop {
		return nil
	}
	unlock, err := l.c.opt.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return l.c.removeLaptop(ctx, l.name)
}

// removeLaptop removes what there is of a laptop, and wants the cluster's lock held.
func (c *Cluster) removeLaptop(ctx context.Context, name string) error {
	l := c.Laptop(name)
	if record, err := l.load(); err == nil {
		if err := record.Resolver.signal(os.Kill); err != nil {
			return err
		}
		// A namespace goes in its own time; the link should be gone on return.
		_, _ = c.run(ctx, "", "ip", "-n", c.opt.netns(), "link", "del", l.link(record))
	}
	if err := killAll(ctx, func() []int { return namespaceProcesses(l.NetNS(), l.MountNS()) }); err != nil {
		return fmt.Errorf("close laptop %s: %w", name, err)
	}
	var failed error
	if isNamespace(l.MountNS()) {
		_, err := c.run(ctx, "", "umount", "-l", l.MountNS())
		failed = errors.Join(failed, err)
	}
	if _, err := os.Stat(l.NetNS()); err == nil {
		_, err := c.run(ctx, "", "ip", "netns", "del", l.netns())
		failed = errors.Join(failed, err)
	}
	_ = os.Remove(l.MountNS())
	return errors.Join(failed, os.RemoveAll(l.dir()))
}

// whole says whether nothing of the laptop is missing.
func (l *Laptop) whole() bool {
	record, err := l.load()
	return err == nil && isNamespace(l.NetNS()) && isNamespace(l.MountNS()) && record.Resolver.alive()
}

func (l *Laptop) load() (laptopRecord, error) {
	var record laptopRecord
	text, err := os.ReadFile(l.path("laptop.json"))
	if err != nil {
		return record, err
	}
	return record, json.Unmarshal(text, &record)
}

func (l *Laptop) save(record laptopRecord) error {
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return maybe.WriteFile(l.path("laptop.json"), text, 0o600)
}

// Name is the laptop's name.
func (l *Laptop) Name() string { return l.name }

// NetNS is the file of the laptop's network namespace.
func (l *Laptop) NetNS() string { return netnsPath(l.netns()) }

// MountNS is the file of the laptop's mount namespace.
func (l *Laptop) MountNS() string { return l.c.opt.path("ns", l.name) }

// Dir is the laptop's folder: run, cache and state in it are the XDG folders of its commands.
func (l *Laptop) Dir() string { return l.dir() }

func (l *Laptop) netns() string           { return l.c.opt.laptopPrefix() + l.name }
func (l *Laptop) dir() string             { return l.c.opt.path("l", l.name) }
func (l *Laptop) path(p ...string) string { return filepath.Join(append([]string{l.dir()}, p...)...) }
func (l *Laptop) resolvFile() string      { return l.path("resolv.conf") }

// link is the cluster's end of the laptop's cable.
func (l *Laptop) link(record laptopRecord) string { return fmt.Sprintf("laptop%d", record.Index) }
