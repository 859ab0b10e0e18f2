package cli

import (
	"context"

	"github.com/spf13/cobra"
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
		if err := o.complete(cmd, args); err != nil {
			return err
		}
		if err := o.validate(); err != nil {
			return err
		}
		return o.run(cmd.Context())
	}
}

// flagsOnly is embedded in options that have flags alone, whose values are used
// as they are.
type flagsOnly struct{}

func (flagsOnly) complete(*cobra.Command, []string) error { return nil }
func (flagsOnly) validate() error                         { return nil }
