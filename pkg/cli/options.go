package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/mount"
)

// options are the flags and arguments of one command, on their way to a call of
// a library. The methods are called in this order, each if the one before
// returned nil.
type options interface {
	// complete takes over the arguments and fills in what follows from flags.
	complete(cmd *cobra.Command, args []string) error
	// validate refuses what cannot be meant. Nothing has been asked or changed
	// before it returns.
	validate() error
	// run does what the command is for.
	run(ctx context.Context) error
}

// runE returns the RunE of a command with these options.
func runE(o options) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		clearMounts(cmd.ErrOrStderr())
		if err := o.complete(cmd, args); err != nil {
			return err
		}
		if err := o.validate(); err != nil {
			return err
		}
		return o.run(cmd.Context())
	}
}

// clearMounts takes away the folders of files that sessions which were killed have left:
// every command does, since a folder of that kind is of no use to anybody.
func clearMounts(errOut io.Writer) {
	cleared, err := mount.ClearStale()
	for _, dir := range cleared {
		_, _ = fmt.Fprintf(errOut, "the files in %s are taken away: the session that showed them was killed\n", dir)
	}
	if err != nil {
		_, _ = fmt.Fprintf(errOut, "warning: %v\n", err)
	}
}

// flagsOnly is embedded in options that have flags alone, whose values are used
// as they are.
type flagsOnly struct{}

func (flagsOnly) complete(*cobra.Command, []string) error { return nil }
func (flagsOnly) validate() error                         { return nil }
