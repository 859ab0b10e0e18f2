package embedded

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// process is one that outlives us. A process ID alone may name another process
// tomorrow; with the start time (clock ticks after boot) it is unique.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

// identify records the process that has this ID now.
func identify(pid int) (process, error) {
	start, state, err := procStat(pid)
	if err != nil {
		return process{}, err
	}
	if state == "Z" || state == "X" {
		return process{}, fmt.Errorf("process %d has ended", pid)
	}
	return process{PID: pid, Start: start}, nil
}

func (p process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	now, err := identify(p.PID)
	return err == nil && now == p
}

// signal does nothing when the process has ended.
func (p process) signal(s os.Signal) error {
	if !p.alive() {
		return nil
	}
	found, err := os.FindProcess(p.PID)
	if err != nil {
		return err
	}
	if err := found.Signal(s); err != nil && p.alive() {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// procStat reads start time and state out of /proc/PID/stat.
func procStat(pid int) (start uint64, state string, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", err
	}
	return parseStat(string(text))
}

// parseStat knows that the command, in parentheses, may itself contain anything.
func parseStat(text string) (start uint64, state string, err error) {
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return 0, "", fmt.Errorf("process status %q: no command", text)
	}
	fields := strings.Fields(text[end+1:])
	const startField = 22 - 3 // field 22 of the line; field 3 is the first after the command
	if len(fields) <= startField {
		return 0, "", fmt.Errorf("process status %q: too short", text)
	}
	start, err = strconv.ParseUint(fields[startField], 10, 64)
	return start, fields[0], err
}

// processes lists the IDs of all processes.
func processes() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
