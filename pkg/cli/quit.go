package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/control"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

type quitOptions struct {
	flagsOnly
	f          *factory
	all, force bool
}

func newQuitCommand(f *factory) *cobra.Command {
	o := &quitOptions{f: f}
	cmd := &cobra.Command{
		Use:     "quit",
		GroupID: groupCore,
		Short:   "End the session: leave all intercepts and put the network back",
		Long: `End the session of this context and namespace, or the only one there is: all
its intercepts are left, and this laptop's network and DNS are as before.`,
		Example: `  # End the session
  kubectl tele quit

  # End every session of this user
  kubectl tele quit --all

  # End one that does not answer any more
  kubectl tele quit --force`,
		Args: noArgs,
		RunE: runE(o),
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "end every session of this user")
	cmd.Flags().BoolVar(&o.force, "force", false, "kill a session that does not answer; kubectl tele clean then puts the cluster back")
	return cmd
}

func (o *quitOptions) run(ctx context.Context) error {
	var targets []running
	if o.all {
		found, err := runningSessions(ctx)
		if err != nil {
			return err
		}
		targets = found
	} else {
		client, status, err := o.f.client(ctx)
		switch {
		case errors.Is(err, control.ErrNotRunning):
			_, _ = fmt.Fprintln(o.f.ErrOut, "No session is running.")
		case client == nil:
			return err
		default:
			targets = []running{{client, status, err}}
		}
	}
	progress := newPrinter(o.f.ErrOut, false)
	defer progress.close()
	var errs []error
	for _, t := range targets {
		if t.silent != nil {
			errs = append(errs, o.end(ctx, t, progress))
			continue
		}
		if err := t.client.Quit(ctx, progress.event); err != nil {
			errs = append(errs, hint.With(fmt.Errorf("quit session %s: %w", t.status.ID, err),
				"kubectl tele clean puts back what is left in the cluster"))
			continue
		}
		progress.event(api.Event{Text: fmt.Sprintf("session of context %s, namespace %s ended", t.status.Context, t.status.Namespace), Done: true})
	}
	errs = append(errs, cleanUpMachine(ctx, progress))
	return errors.Join(errs...)
}

// end kills a silent session if it may.
func (o *quitOptions) end(ctx context.Context, t running, progress *printer) error {
	if !o.force {
		return t.silent
	}
	if err := t.client.Kill(ctx); err != nil && !errors.Is(err, control.ErrNotRunning) {
		return fmt.Errorf("kill session: %w", err)
	}
	// Its helper notices, and puts this machine back.
	waitHelper(ctx)
	progress.event(api.Event{Text: "the session was killed; kubectl tele clean puts back what it left in the cluster", Warning: true})
	return nil
}
