package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroupHierarchies are the folders that have a tree of cgroups each: one with
// cgroup v2, one a controller with v1.
func cgroupHierarchies(root string) []string {
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return []string{root}
	}
	var all []string
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		dir := filepath.Join(root, e.Name())
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil && e.IsDir() {
			all = append(all, dir)
		}
	}
	return all
}

// Every kubelet has a cgroup root of its own, or each would remove the other's
// pods; what the node itself runs lies beside it.
func (o Options) podsCgroup(n node) string   { return o.Name + "/" + n.name }
func (o Options) systemCgroup(n node) string { return o.Name + "/" + n.name + "-system" }
func (o Options) controlCgroup() string      { return o.Name + "/control" }

func (o Options) makeCgroups() error {
	names := []string{o.Name, o.controlCgroup()}
	for _, n := range nodes() {
		names = append(names, o.podsCgroup(n), o.systemCgroup(n))
	}
	hierarchies := cgroupHierarchies(cgroupRoot)
	if len(hierarchies) == 0 {
		return fmt.Errorf("no cgroups in %s", cgroupRoot)
	}
	for _, h := range hierarchies {
		for _, name := range names {
			if err := makeCgroup(filepath.Join(h, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeCgroup makes a cgroup that processes can join and children can be made
// in: v1's cpusets start empty, v2's controllers must be handed down.
func makeCgroup(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	parent := filepath.Dir(dir)
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		inherited, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil || strings.TrimSpace(string(inherited)) == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
			continue // v2 inherits
		}
		if err := os.WriteFile(filepath.Join(dir, file), inherited, 0o644); err != nil {
			return err
		}
	}
	available, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err != nil {
		return nil
	}
	for controller := range strings.FieldsSeq(string(available)) {
		// Some (rt tasks hold cpu, for instance) cannot be handed down; the
		// kubelet says by itself which one it lacks.
		_ = os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
	}
	return nil
}

// cgroupProcesses lists the processes in a cgroup and below, in any hierarchy.
func cgroupProcesses(name string) []int {
	var pids []int
	for _, h := range cgroupHierarchies(cgroupRoot) {
		_ = filepath.WalkDir(filepath.Join(h, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || d.Name() != "cgroup.procs" {
				return nil //nolint:nilerr // cgroups vanish while we look
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return nil //nolint:nilerr // as above
			}
			for field := range strings.FieldsSeq(string(text)) {
				if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// removeCgroups removes a cgroup and all below it from every hierarchy. The
// kernel needs a moment between a process's end and its cgroup's.
func removeCgroups(ctx context.Context, name string) error {
	for {
		var failed error
		for _, h := range cgroupHierarchies(cgroupRoot) {
			failed = errors.Join(failed, removeCgroup(filepath.Join(h, name)))
		}
		if failed == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove cgroup %s: %w", name, failed)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeCgroup(filepath.Join(dir, e.Name())))
		}
	}
	if removed := os.Remove(dir); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	return err
}
