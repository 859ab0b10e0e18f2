// Package cli maps commands and flags to calls of libraries, one file a command:
// to the background session by its socket (pkg/control), and to the cluster where
// a command needs no session. It owns what a person sees (help, progress, tables,
// errors with hints, exit codes) and the starting of processes: the background
// session and the privileged helper.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// Main runs one command and returns the process's exit code: 0, 1 for a
// failure, 2 for a wrong use, 130 after Ctrl-C, or that of a handler that was
// run.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := NewCommand(genericiooptions.IOStreams{In: in, Out: out, ErrOut: errOut})
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*exitError](err); ok {
		said := exit.err
		if exit.code == usageCode && len(hint.Of(said)) == 0 {
			said = hint.With(said, cmd.CommandPath()+" --help")
		}
		if said != nil {
			printError(errOut, said)
		}
		return exit.code
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		_, _ = fmt.Fprintln(errOut, "interrupted")
		return 130
	}
	printError(errOut, err)
	return 1
}

// exitError ends the process with a code of its own.
type exitError struct {
	code int
	err  error // nil if everything has been said
}

func (e *exitError) Error() string {
	if e.err != nil {
		return e.err.Error()
	}
	return fmt.Sprintf("exit code %d", e.code)
}
func (e *exitError) Unwrap() error { return e.err }

// usageCode is the exit code of a wrong use of the command line.
const usageCode = 2

// usageError is a wrong use of the command line.
func usageError(err error, hints ...string) error {
	return &exitError{code: usageCode, err: hint.With(err, hints...)}
}

func printError(w io.Writer, err error) {
	_, _ = fmt.Fprintf(w, "error: %v\n", err)
	for _, h := range hint.Of(err) {
		_, _ = fmt.Fprintf(w, "hint: %s\n", h)
	}
}

// NewCommand returns the whole command tree.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	f := newFactory(genericclioptions.NewConfigFlags(true), streams)
	root := &cobra.Command{
		Use:   "kubectl-tele",
		Short: "Make this laptop part of a Kubernetes cluster, with nothing installed there",
		Long: `Make this laptop part of a Kubernetes cluster, and a local process part of a
Deployment. Nothing is installed in the cluster, and no right beyond those of
the ClusterRole "edit" in one namespace is needed.`,
		Example: `  # Reach the cluster's Services by name from this laptop
  kubectl tele connect

  # Answer the traffic of Deployment back with the process on port 8080
  kubectl tele intercept back --port 8080

  # Give everything back
  kubectl tele quit`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl tele"},
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2 // of the letters of a mistyped command
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError(err, cmd.CommandPath()+" --help")
	})
	f.config.AddFlags(root.PersistentFlags())
	root.AddGroup(
		&cobra.Group{ID: groupCore, Title: "Core commands:"},
		&cobra.Group{ID: groupOther, Title: "Other commands:"},
	)
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	root.AddCommand(
		newConnectCommand(f), newInterceptCommand(f), newLeaveCommand(f),
		newListCommand(f), newWatchCommand(f), newStatusCommand(f), newQuitCommand(f),
		newCleanCommand(f), newEnvCommand(f), newMountCommand(f), newReplayCommand(f), newLogsCommand(f), newVersionCommand(f),
		newSessionCommand(f), newHelperCommand(f),
	)
	return root
}

const (
	groupCore  = "core"
	groupOther = "other"
)
