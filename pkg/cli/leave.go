package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

type leaveOptions struct {
	f         *factory
	workloads []string
	spec      api.LeaveSpec
}

func newLeaveCommand(f *factory) *cobra.Command {
	o := &leaveOptions{f: f}
	cmd := &cobra.Command{
		Use:     "leave (WORKLOAD [--port PORT] | --all)",
		GroupID: groupCore,
		Short:   "End an intercept and put the workload back as it was",
		Long: `End an intercept: the app answers again at once, and if nobody else intercepts
the workload, everything that intercept changed is put back. What colleagues
changed meanwhile stays. Files that mount shows of it are taken away, too.`,
		Example: `  # Give Deployment back its traffic again
  kubectl tele leave back

  # Of several ports, leave one
  kubectl tele leave back --port http

  # What leads from a Service, of all the workloads behind it
  kubectl tele leave svc/back

  # End all intercepts of this session
  kubectl tele leave --all`,
		RunE:              runE(o),
		ValidArgsFunction: f.completeIntercepts,
	}
	cmd.Flags().StringVarP(&o.spec.Port, "port", "p", "", "leave only this `PORT` of the workload, a Service's or container's name or number, with /udp where it is of UDP")
	cmd.Flags().BoolVar(&o.spec.All, "all", false, "end all intercepts of this session")
	return cmd
}

func (o *leaveOptions) complete(_ *cobra.Command, args []string) error {
	o.workloads = args
	if len(args) > 0 {
		o.spec.Workload = args[0]
	}
	return nil
}

func (o *leaveOptions) validate() error {
	if o.spec.All && (len(o.workloads) > 0 || o.spec.Port != "") {
		return usageError(errors.New("--all excludes a workload and --port"))
	}
	if !o.spec.All && len(o.workloads) != 1 {
		return usageError(fmt.Errorf("one workload is needed, not %d", len(o.workloads)), "kubectl tele leave WORKLOAD", "kubectl tele leave --all")
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
