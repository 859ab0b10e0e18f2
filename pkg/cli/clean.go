package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/intercept"
)

type cleanOptions struct {
	f         *factory
	workloads []string
	all       bool
	spec      api.CleanSpec
}

func newCleanCommand(f *factory) *cobra.Command {
	o := &cleanOptions{f: f}
	cmd := &cobra.Command{
		Use:     "clean [WORKLOAD | --all]",
		GroupID: groupOther,
		Short:   "Put back what a lost session left in the cluster",
		Long: `Put back what sessions that are gone left in the namespace: sidecars, switched
Services and agent pods, anybody's, from any machine. What a live session uses is
skipped, unless --force is given; one that has just been lost is waited for, up
to a minute. What colleagues changed meanwhile stays.`,
		Example: `  # See what would be put back
  kubectl tele clean --dry-run

  # Put everything back that no live session uses
  kubectl tele clean

  # One workload, even if somebody intercepts it now
  kubectl tele clean back --force`,
		RunE:              runE(o),
		ValidArgsFunction: f.completeWorkloads,
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "everything in the namespace (what happens without a WORKLOAD)")
	cmd.Flags().BoolVar(&o.spec.Force, "force", false, "put back what a live session uses, too")
	cmd.Flags().BoolVar(&o.spec.DryRun, "dry-run", false, "say what would be done, and change nothing")
	cmd.Flags().DurationVar(&o.spec.Timeout, "timeout", 5*time.Minute, "how long the rolling updates may take")
	return cmd
}

func (o *cleanOptions) complete(_ *cobra.Command, args []string) error {
	o.workloads = args
	if len(args) > 0 {
		o.spec.Workload = args[0]
	}
	return nil
}

func (o *cleanOptions) validate() error {
	if len(o.workloads) > 1 {
		return usageError(fmt.Errorf("one workload at most, not %d", len(o.workloads)))
	}
	if o.all && len(o.workloads) > 0 {
		return usageError(errors.New("--all and a workload exclude each other"))
	}
	if o.spec.Timeout <= 0 {
		return usageError(errors.New("--timeout must be more than 0"))
	}
	return nil
}

func (o *cleanOptions) run(ctx context.Context) error {
	c, err := o.f.cluster()
	if err != nil {
		return err
	}
	progress := newPrinter(o.f.ErrOut, false)
	defer progress.close()
	n, err := intercept.Clean(ctx, c, o.spec, progress.event)
	if err != nil {
		return err
	}
	if n == 0 {
		where := "in namespace " + c.Namespace()
		if o.spec.Workload != "" {
			where = "on " + o.spec.Workload + " " + where
		}
		progress.event(api.Event{Text: "nothing of tele's is left " + where, Done: true})
	}
	return nil
}
