package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/control"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

type logsOptions struct {
	flagsOnly
	f *factory
}

func newLogsCommand(f *factory) *cobra.Command {
	o := &logsOptions{f: f}
	return &cobra.Command{
		Use:     "logs",
		GroupID: groupOther,
		Short:   "Print the log of the session",
		Long:    "Print the log of the session of this context and namespace, running or not.",
		Example: `  # What the session did
  kubectl tele logs`,
		Args: noArgs,
		RunE: runE(o),
	}
}

func (o *logsOptions) run(context.Context) error {
	p, err := o.f.place()
	if err != nil {
		return err
	}
	dir, err := control.Dir(p.ID())
	if err != nil {
		return err
	}
	log, err := os.ReadFile(control.LogFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return hint.With(fmt.Errorf("there has been no session for context %s, namespace %s", p.Context, p.Namespace),
			"choose with --context and --namespace")
	}
	if err != nil {
		return fmt.Errorf("read the session's log: %w", err)
	}
	_, err = o.f.Out.Write(log)
	return err
}
