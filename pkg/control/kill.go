package control

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/poll"
)

// killLimit bounds waiting for the end of a process that was killed.
const killLimit = 5 * time.Second

// Kill ends the session's process without asking it, and returns when it is gone;
// ErrNotRunning if there is none. The session's helper undoes its work on this
// machine, and its agents give the traffic back to the apps.
func (c *Client) Kill(ctx context.Context) error {
	unlock, err := lock(c.dir)
	if err == nil {
		unlock()
		return ErrNotRunning
	}
	text, err := os.ReadFile(pidFile(c.dir))
	if err != nil {
		return fmt.Errorf("read the session's process id: %w", err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil || pid <= 1 {
		return fmt.Errorf("%s holds no process id", pidFile(c.dir))
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return fmt.Errorf("find process %d: %w", pid, err)
	}
	if err := process.Kill(); err != nil {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, killLimit, fmt.Errorf("process %d is still there after %s", pid, killLimit))
	defer cancel()
	return poll.Until(ctx, lockEvery, func() (bool, error) {
		unlock, err := lock(c.dir)
		if err != nil {
			return false, nil // the process still has it
		}
		unlock()
		return true, nil
	})
}
