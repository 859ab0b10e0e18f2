package mount

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// fsName is what the system calls our mounts.
const fsName = "kubectl-tele"

// source is what the table of mounts says of ours: whose they are.
func source() string {
	return fmt.Sprintf("%s:%d:%d", fsName, os.Getpid(), startOf(os.Getpid()))
}

// startOf is when a process was started, in ticks since the machine was; 0 if there is none.
func startOf(pid int) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may have spaces and parentheses.
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	const start = 22 - 3 // proc(5): the 22nd, and rest begins with the third
	if len(fields) <= start {
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
	return cleared, errors.Join(errs...)
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
