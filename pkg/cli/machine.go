package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/poll"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun/helper"
)

// helperKilled reports whether a helper of this user was killed and has left
// this machine's network or DNS changed, with no session that still uses them.
func helperKilled(ctx context.Context) (bool, error) {
	if !helper.Left(os.Getuid()) {
		return false, nil
	}
	found, err := runningSessions(ctx)
	if err != nil {
		return false, err
	}
	for _, r := range found {
		if n := r.status.Network; r.silent != nil || n != nil && !n.HelperGone {
			return false, nil // its helper may be running
		}
	}
	return true, nil
}

// waitHelper waits until the helper of a session that was killed has undone its
// work, for at most statusLimit.
func waitHelper(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	_ = poll.Until(ctx, 50*time.Millisecond, func() (bool, error) { return !helper.Left(os.Getuid()), nil })
}

// checkOnlyNetwork refuses a network beside that of another session than id: a
// machine has one resolver and one table of routes.
func checkOnlyNetwork(ctx context.Context, id string) error {
	found, err := runningSessions(ctx)
	if err != nil {
		return err
	}
	for _, r := range found {
		if st := r.status; st.ID != id && st.Network != nil {
			return hint.With(fmt.Errorf("this machine is connected to context %s, namespace %s, by another session", st.Context, st.Namespace),
				fmt.Sprintf("kubectl tele quit --context %s -n %s", st.Context, st.Namespace))
		}
	}
	return nil
}

// cleanUpMachine undoes, as root, what a helper that was killed has left; it
// does nothing if there was none.
func cleanUpMachine(ctx context.Context, progress *printer) error {
	killed, err := helperKilled(ctx)
	if err != nil || !killed {
		return err
	}
	progress.pause()
	if err := cleanUpHelper(ctx); err != nil {
		return err
	}
	progress.event(api.Event{Text: "DNS of this machine put back, which a session that was killed had left", Done: true})
	return nil
}
