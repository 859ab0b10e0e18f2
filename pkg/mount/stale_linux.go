package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// fsName is what the system calls our mounts.
const fsName = "kubectl-tele"

// folderOf begins the names of folders that a process has for its sockets: whose they are.
func folderOf(pid int) string {
	return fmt.Sprintf("%s-%d-%d-%d", fsName, os.Getuid(), pid, startOf(pid))
}

// source is what the table of mounts says of ours: whose they are.
func source() string {
	return fmt.Sprintf("%s:%d:%d", fsName, os.Getpid(), startOf(os.Getpid()))
}

// startOf is when a process that runs was started, in ticks since the machine was; 0 if there
// is none.
func startOf(pid int) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may have spaces and parentheses.
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	const start = 22 - 3                                              // proc(5): the 22nd, and rest begins with the third
	if len(fields) <= start || fields[0] == "Z" || fields[0] == "X" { // it has ended, and nobody has asked how
		return 0
	}
	ticks, _ := strconv.ParseUint(fields[start], 10, 64)
	return ticks
}

// ClearStale takes away the mounts of this user's processes that have ended without, and
// returns where they were. It looks at no mount: that of a process that has ended may
// make whoever looks wait.
func ClearStale() (cleared []string, err error) {
	all, err := mountinfo.GetMounts(func(info *mountinfo.Info) (skip, stop bool) {
		return info.FSType != "fuse."+fsName || !isStale(info), false
	})
	if err != nil {
		return nil, fmt.Errorf("read the table of mounts: %w", err)
	}
	var errs []error
	for _, info := range all {
		if err := detach(info.Mountpoint); err != nil {
			errs = append(errs, fmt.Errorf("take the files in %s away, which a session that was killed has left: %w", info.Mountpoint, err))
			continue
		}
		cleared = append(cleared, info.Mountpoint)
	}
	clearSockets()
	return cleared, errors.Join(errs...)
}

// clearSockets removes this user's folders of sockets whose process has ended.
func clearSockets() {
	found, _ := filepath.Glob(filepath.Join(os.TempDir(), fmt.Sprintf("%s-%d-*", fsName, os.Getuid())))
	for _, dir := range found {
		var pid int
		if _, err := fmt.Sscanf(strings.TrimPrefix(filepath.Base(dir), fmt.Sprintf("%s-%d-", fsName, os.Getuid())), "%d-", &pid); err != nil {
			continue
		}
		if strings.HasPrefix(filepath.Base(dir), folderOf(pid)+"-") {
			continue // it runs
		}
		_ = os.RemoveAll(dir) // of others it is not ours to remove, nor to tell
	}
}

func isStale(info *mountinfo.Info) bool {
	parts := strings.Split(info.Source, ":")
	if len(parts) != 3 || parts[0] != fsName || !ours(info.VFSOptions) {
		return false
	}
	pid, err := strconv.Atoi(parts[1])
	return err == nil && strconv.FormatUint(startOf(pid), 10) != parts[2]
}

// ours reports whether a mount is of this user.
func ours(options string) bool {
	for option := range strings.SplitSeq(options, ",") {
		if uid, ok := strings.CutPrefix(option, "user_id="); ok {
			return uid == strconv.Itoa(os.Getuid())
		}
	}
	return false
}
