package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/session"
)

type leaveOptions struct {
	f    *factory
	spec session.LeaveSpec
}

func newLeaveCommand(f *factory) *cobra.Command {
	o := &leaveOptions{f: f}
	cmd := &cobra.Command{
		Use:     "leave (WORKLOAD | --all)",
		GroupID: groupCore,
		Short:   "End an intercept and put the workload back as it was",
		Long: `End an intercept: the app answers again at once, and if nobody else intercepts
the workload, everything that intercept changed is put back. What colleagues
changed meanwhile stays.`,
		Example: `  # Give Deployment back its traffic again
  kubectl tele leave back

  # End all intercepts of this session
  kubectl tele leave --all`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(args); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
		ValidArgsFunction: f.completeIntercepts,
	}
	cmd.Flags().BoolVar(&o.spec.All, "all", false, "end all intercepts of this session")
	return cmd
}

func (o *leaveOptions) complete(args []string) error {
	if o.spec.All && len(args) > 0 {
		return usageError(errors.New("--all and a workload exclude each other"))
	}
	if !o.spec.All && len(args) != 1 {
		return usageError(fmt.Errorf("one workload is needed, not %d", len(args)), "kubectl tele leave WORKLOAD", "kubectl tele leave --all")
	}
	if len(args) == 1 {
		o.spec.Workload = args[0]
	}
	return nil
}

func (o *leaveOptions) run(ctx context.Context) error {
	client, _, err := o.f.client(ctx)
	if err != nil {
		return err
	}
	progress := newPrinter(o.f.ErrOut, false)
	defer progress.close()
	return client.Leave(ctx, o.spec, progress.event)
}
