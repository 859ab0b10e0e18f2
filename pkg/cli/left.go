package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/session"
)

// helperLeft says whether this machine's network and DNS are as a helper of
// this user has left them that was killed.
func helperLeft(ctx context.Context) (bool, error) {
	if !session.HelperLeft(os.Getuid()) {
		return false, nil
	}
	found, err := runningSessions(ctx)
	if err != nil {
		return false, err
	}
	for _, r := range found {
		if n := r.status.Network; r.silent != nil || n != nil && !n.HelperGone {
			return false, nil // its helper is at work
		}
	}
	return true, nil
}

// waitHelper gives the helper of a session that was killed the time that it
// takes to undo its work.
func waitHelper(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	for session.HelperLeft(os.Getuid()) {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// checkAlone refuses a second network: a machine has one resolver and one table
// of routes.
func checkAlone(ctx context.Context, id string) error {
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

// cleanUpLeft puts right what such a helper has left.
func cleanUpLeft(ctx context.Context, progress *printer) error {
	left, err := helperLeft(ctx)
	if err != nil || !left {
		return err
	}
	progress.pause()
	if err := cleanUpHelper(ctx); err != nil {
		return err
	}
	progress.event(session.Event{Text: "DNS of this machine put back, which a session that was killed had left", Done: true})
	return nil
}
