package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/control"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun/helper"
)

// helperCommand is the hidden command that is the privileged helper. It runs
// as root for a session that does not: its flags are all that it is told on
// the command line, and all else is checked (see pkg/tun/helper).
const helperCommand = "__helper"

type helperOptions struct {
	f        *factory
	socket   string
	uid      int
	detached bool
	cleanUp  bool
}

func newHelperCommand(f *factory) *cobra.Command {
	o := &helperOptions{f: f}
	cmd := &cobra.Command{
		Use: helperCommand, Hidden: true, Args: noArgs,
		Short: "The privileged helper (started by connect through sudo)",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.detached {
				return o.serve(cmd.Context())
			}
			// Who starts this reads what went wrong from stdout: stderr is
			// sudo's, to ask for a password.
			if err := o.start(cmd.Context()); err != nil {
				_ = json.NewEncoder(f.Out).Encode(api.Event{Error: control.NewFailure(err), End: true})
				return &exitError{code: 1}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&o.socket, "socket", "", "the session's socket")
	cmd.Flags().IntVar(&o.uid, "uid", -1, "the session's user")
	cmd.Flags().BoolVar(&o.detached, "detached", false, "this is the process that stays")
	cmd.Flags().BoolVar(&o.cleanUp, "clean-up", false, "undo what a helper that was killed has left, and end")
	return cmd
}

func (o *helperOptions) start(ctx context.Context) error {
	if err := o.validate(); err != nil {
		return err
	}
	if o.cleanUp {
		return helper.CleanUp(ctx, o.uid)
	}
	return spawn(ctx, []string{helperCommand, "--detached", "--socket=" + o.socket, "--uid=" + strconv.Itoa(o.uid)})
}

func (o *helperOptions) validate() error {
	switch {
	case os.Geteuid() != 0:
		return errors.New("the helper must be root")
	case (o.socket == "") != o.cleanUp || o.uid < 0:
		return usageError(errors.New("the helper needs --uid, and --socket or --clean-up"))
	}
	// sudo says who asked; nobody may name another.
	if asked := os.Getenv("SUDO_UID"); asked != "" && asked != strconv.Itoa(o.uid) {
		return fmt.Errorf("the helper was asked for by uid %s, not %d", asked, o.uid)
	}
	return nil
}

// serve tells the starting process on stdout, in one line, that the session
// has been reached or why not.
func (o *helperOptions) serve(ctx context.Context) error {
	if err := o.validate(); err != nil {
		return err
	}
	say := func(e api.Event) { _ = json.NewEncoder(o.f.Out).Encode(e) }
	err := helper.Run(ctx, o.socket, o.uid, func() { say(api.Event{End: true}) })
	if err != nil {
		say(api.Event{Error: control.NewFailure(err), End: true})
	}
	return err
}
