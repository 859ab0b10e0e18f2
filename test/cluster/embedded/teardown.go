package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// teardownLimit is far above what the kernel needs to let go of a cluster.
const teardownLimit = time.Minute

// teardown removes everything that is the cluster's, by name. It holds no
// matter what was made, crashed or was removed before, and wants the lock held.
func teardown(ctx context.Context, opt Options) error {
	ctx, cancel := context.WithTimeoutCause(ctx, teardownLimit, fmt.Errorf("the cluster is not gone after %s", teardownLimit))
	defer cancel()
	namespaces := opt.namespaceFiles()
	if insideOf(namespaces) {
		return errors.New("take the cluster down: this command runs inside one of its namespaces")
	}
	// The end of process 1 is the end of all that runs in the cluster. What
	// remains was started at laptops, or belongs to a cluster whose state is lost.
	if s, err := loadState(opt.Dir); err == nil {
		if err := s.Init.signal(os.Kill); err != nil {
			return err
		}
	}
	err := killAll(ctx, func() []int { return append(cgroupProcesses(opt.Name), namespaceProcesses(namespaces...)...) })
	if err != nil {
		return fmt.Errorf("take the cluster down: %w", err)
	}
	if err := unmountBelow(ctx, opt.Dir); err != nil {
		return err
	}
	for _, name := range opt.netnsNames() {
		if _, err := run(ctx, "", "ip", "netns", "del", name); err != nil {
			return err
		}
	}
	if err := removeCgroups(ctx, opt.Name); err != nil {
		return err
	}
	if err := removeNetnsDir(ctx); err != nil {
		return err
	}
	return os.RemoveAll(opt.Dir)
}

// namespaceFiles are the files of all namespaces with names of this cluster.
func (o Options) namespaceFiles() []string {
	var files []string
	for _, name := range o.netnsNames() {
		files = append(files, netnsPath(name))
	}
	entries, err := os.ReadDir(o.path("ns"))
	if err != nil {
		return files
	}
	for _, e := range entries {
		files = append(files, o.path("ns", e.Name()))
	}
	return files
}

func insideOf(namespaces []string) bool {
	return slices.Contains(namespaceProcesses(namespaces...), os.Getpid())
}

// namespaceProcesses lists the processes in any of the namespaces that files hold.
func namespaceProcesses(files ...string) []int {
	wanted := map[uint64]bool{}
	for _, file := range files {
		if isNamespace(file) {
			wanted[inode(file)] = true
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	all, err := processes()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(pid int) bool {
		dir := filepath.Join("/proc", strconv.Itoa(pid), "ns")
		return !wanted[inode(filepath.Join(dir, "net"))] && !wanted[inode(filepath.Join(dir, "mnt"))]
	})
}

// killAll kills what list lists until it lists nothing that lives. This process is spared.
func killAll(ctx context.Context, list func() []int) error {
	for {
		var living []process
		for _, pid := range list() {
			if p, err := identify(pid); err == nil && pid != os.Getpid() {
				living = append(living, p)
			}
		}
		if len(living) == 0 {
			return nil
		}
		for _, p := range living {
			if err := p.signal(os.Kill); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: processes that do not end: %v", context.Cause(ctx), living)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// unmountBelow removes every mount in a folder, the last first.
func unmountBelow(ctx context.Context, dir string) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, target := range mountsBelow(string(text), dir) {
		if _, err := run(ctx, "", "umount", "-l", target); err != nil {
			return err
		}
	}
	return nil
}

// mountsBelow reads mount points in a folder out of mountinfo, the last first.
func mountsBelow(mountinfo, dir string) []string {
	var found []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		target := unescape(fields[4])
		if strings.HasPrefix(target, dir+"/") {
			found = append(found, target)
		}
	}
	slices.Reverse(found)
	return found
}

// unescape undoes mountinfo's octal notation of space, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
