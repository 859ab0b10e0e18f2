package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maskedDirs are empty to the cluster's processes, and what they write there
// is gone with them: sockets and locks, CNI's and the kubelets' fixed paths, logs.
var maskedDirs = []string{"/run", "/var/lib", "/var/log"}

// startInit starts the cluster's process 1 and prepares its mount namespace.
func (c *Cluster) startInit(ctx context.Context) error {
	c.mu.Lock()
	warden := c.state.Components.warden()
	c.mu.Unlock()
	out, err := c.run(ctx, "", warden, "spawn", "-new", "-cgroup="+c.opt.controlCgroup(),
		"-log="+c.opt.path("log", "init.log"), "--", warden, "init")
	if err != nil {
		return err
	}
	first, err := spawned(out)
	if err != nil {
		return err
	}
	if err := c.update(func(s *state) { s.Init = first }); err != nil {
		return err
	}
	var script strings.Builder
	_, _ = script.WriteString("set -e\nmount --make-rprivate /\n")
	for _, dir := range maskedDirs {
		_, _ = fmt.Fprintf(&script, "umount -R -l %[1]s 2>/dev/null || true\nmount -t tmpfs -o mode=755 tmpfs %[1]s\n", dir)
	}
	// Kubelets want their mounts to be seen by containers that ask for it.
	_, _ = script.WriteString("mkdir -p /run/netns /run/lock\nmount -t proc proc /proc\nmount --make-rshared /\n")
	target := strconv.Itoa(first.PID)
	_, err = c.run(ctx, script.String(), "nsenter", "--target="+target, "--mount", "--pid", "sh")
	return err
}

// spawned reads what "warden spawn" printed.
func spawned(out string) (process, error) {
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		return process{}, fmt.Errorf("process ID %q: %w", out, err)
	}
	p, err := identify(pid)
	if err != nil {
		return process{}, fmt.Errorf("started, and ended at once: %w", err)
	}
	return p, nil
}

// start runs a program in the cluster's namespaces and records it.
func (c *Cluster) start(ctx context.Context, p program) error {
	var err error
	if p.process, err = c.launch(ctx, p); err != nil {
		return err
	}
	return c.update(func(s *state) { s.Processes[p.name] = &p.component })
}

// launch is start without the record.
func (c *Cluster) launch(ctx context.Context, p program) (process, error) {
	c.mu.Lock()
	first, warden := c.state.Init, c.state.Components.warden()
	c.mu.Unlock()
	if !first.alive() {
		return process{}, fmt.Errorf("start %s: the cluster's process 1 is gone", p.name)
	}
	argv := []string{warden, "spawn", "-cgroup=" + p.Cgroup, "-log=" + c.logFile(p.name), "-dir=" + c.opt.Dir, fmt.Sprintf("-pid=/proc/%d/ns/pid", first.PID)}
	if p.NetNS != "" {
		argv = append(argv, "-net="+p.NetNS)
	}
	if p.Listen != "" {
		argv = append(argv, "-listen="+p.Listen, "-listen-net="+c.ClusterNetNS())
	} else {
		argv = append(argv, fmt.Sprintf("-mount=/proc/%d/ns/mnt", first.PID))
	}
	out, err := c.run(ctx, "", slices.Concat(argv, []string{"--"}, p.Argv)...)
	if err != nil {
		return process{}, fmt.Errorf("start %s: %w", p.name, err)
	}
	started, err := spawned(out)
	if err != nil {
		return process{}, fmt.Errorf("start %s: %w%s", p.name, err, c.logTail(p.name))
	}
	return started, nil
}

func (c *Cluster) logFile(name string) string { return c.opt.path("log", name+".log") }

// logTail is the end of a component's log, to be put behind an error.
func (c *Cluster) logTail(name string) string {
	text, err := os.ReadFile(c.logFile(name))
	if err != nil || len(text) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Sprintf("\nend of %s:\n  %s", c.logFile(name), strings.Join(lines[max(0, len(lines)-10):], "\n  "))
}

// ended returns an error naming the first component that was started and does not run.
func (c *Cluster) ended() error {
	var names []string
	err := errors.New("the cluster's process 1 is gone")
	c.view(func(s *state) {
		if s.Init.alive() {
			err = nil
		}
		names = slices.Sorted(maps.Keys(s.Processes))
	})
	for _, name := range names {
		if err == nil {
			err = c.endedNow(name)
		}
	}
	return err
}

// stop ends a process: SIGTERM, and SIGKILL when it takes longer than grace.
// No grace, no SIGTERM.
func stop(ctx context.Context, p process, grace time.Duration) error {
	if grace > 0 {
		if err := p.signal(syscall.SIGTERM); err != nil {
			return err
		}
		if gone(ctx, p, grace) {
			return nil
		}
	}
	if err := p.signal(os.Kill); err != nil {
		return err
	}
	if gone(ctx, p, 10*time.Second) {
		return nil
	}
	return fmt.Errorf("process %d does not end", p.PID)
}

// gone waits for the end of a process.
func gone(ctx context.Context, p process, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for p.alive() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return true
}
