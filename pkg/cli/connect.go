package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/control"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

type connectOptions struct {
	f          *factory
	image      string
	timeout    time.Duration
	foreground bool
	quiet      bool
	output     output

	sessionArgs []string
}

func newConnectCommand(f *factory) *cobra.Command {
	o := &connectOptions{f: f}
	cmd := &cobra.Command{
		Use:     "connect",
		GroupID: groupCore,
		Short:   "Make this laptop part of the cluster's network",
		Long: `Make this laptop part of the cluster's network: Services and pods answer by
name and address, as they do in a pod of the namespace. Other names and
addresses go where they went before.

One small agent pod is started in the namespace, by a Job; it is gone after
quit. The session runs in the background until then. Root is needed for the
network device alone, and asked for through sudo.`,
		Example: `  # Connect to the current context's namespace
  kubectl tele connect

  # Another context and namespace
  kubectl tele connect --context staging -n shop

  # Stay in the foreground until Ctrl-C, for CI and service managers
  kubectl tele connect --foreground`,
		Args: noArgs,
		RunE: runE(o),
	}
	addImageFlag(cmd, &o.image)
	cmd.Flags().DurationVar(&o.timeout, "timeout", time.Minute, "how long the cluster may take to start the agent")
	cmd.Flags().BoolVar(&o.foreground, "foreground", false, "stay in the foreground, and quit at the end")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print warnings and errors only")
	o.output.addFlag(cmd)
	return cmd
}

func (o *connectOptions) complete(cmd *cobra.Command, _ []string) error {
	o.sessionArgs = o.f.configArgs(cmd)
	return nil
}

func (o *connectOptions) validate() error {
	if o.timeout <= 0 {
		return usageError(fmt.Errorf("--timeout must be more than 0, not %s", o.timeout))
	}
	return o.output.validate()
}

func (o *connectOptions) run(ctx context.Context) error {
	p, err := o.f.place()
	if err != nil {
		return err
	}
	if err := checkOnlyNetwork(ctx, p.ID()); err != nil {
		return err
	}
	if o.foreground {
		return o.runForeground(ctx)
	}
	client, err := o.f.ensureSession(ctx, o.sessionArgs)
	if err != nil {
		return err
	}
	return o.connect(ctx, client)
}

// runForeground serves the session in this process while it connects through
// its own socket.
func (o *connectOptions) runForeground(ctx context.Context) error {
	p, err := o.f.place()
	if err != nil {
		return err
	}
	dir, err := control.Dir(p.ID())
	if err != nil {
		return err
	}
	serveCtx, stop := context.WithCancel(ctx)
	defer stop()
	ready := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- o.f.runSession(serveCtx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-ended:
		return err
	}
	if err := o.connect(ctx, control.NewClient(dir)); err != nil {
		stop()
		return errors.Join(err, <-ended)
	}
	return <-ended
}

// helperGrace is how long a session may take to say why it did not wait for
// the helper.
const helperGrace = time.Second

func (o *connectOptions) connect(ctx context.Context, client *control.Client) error {
	p, err := o.f.place()
	if err != nil {
		return err
	}
	progress := newPrinter(o.f.ErrOut, o.quiet)
	defer progress.close()
	// Before anything asks for a name: names may lead to a session that is gone.
	if err := cleanUpMachine(ctx, progress); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var giveUp *time.Timer
	last, err := client.Connect(ctx, api.ConnectSpec{AgentImage: agentImage(o.image), Timeout: o.timeout}, func(e api.Event) {
		if e.HelperSocket == "" {
			progress.event(e)
			return
		}
		progress.pause()
		if err := startHelper(ctx, e.HelperSocket); err != nil {
			// A session that failed for a reason of its own has no use for a
			// helper; that reason, which is on its way, is the one to tell.
			giveUp = time.AfterFunc(helperGrace, func() { cancel(err) })
		}
	})
	if giveUp != nil {
		giveUp.Stop()
	}
	progress.close()
	if err != nil {
		return err
	}
	if last.Status == nil || last.Status.Network == nil {
		return fmt.Errorf("session %s did not say what it connected", p.ID())
	}
	return o.output.print(o.f.Out, last.Status, func(w io.Writer) {
		if o.quiet {
			return
		}
		printConnected(w, last.Status)
	})
}

func printConnected(w io.Writer, st *api.Status) {
	n := st.Network
	_, _ = fmt.Fprintf(w, "Connected to context %s (%s), namespace %s\n", st.Context, st.Server, st.Namespace)
	_, _ = fmt.Fprintf(w, "  names     NAME, NAME.NAMESPACE, *.%s\n", n.Domain)
	_, _ = fmt.Fprintf(w, "  services  %s\n", joinPrefixes(n.Services))
	_, _ = fmt.Fprintf(w, "  pods      %s\n", joinPrefixes(n.Pods))
}

func joinPrefixes(ranges []netip.Prefix) string {
	words := make([]string, len(ranges))
	for i, r := range ranges {
		words[i] = r.String()
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

func addImageFlag(cmd *cobra.Command, image *string) {
	cmd.Flags().StringVar(image, "agent-image", "", "image of the agent (default: TELE_AGENT_IMAGE, else the image of this version)")
}
