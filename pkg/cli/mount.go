package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/mount"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

type mountOptions struct {
	f           *factory
	sessionArgs []string
	spec        api.InterceptSpec // of who shows files
	copied      bool
	image       string
	quiet       bool
	output      output
}

func newMountCommand(f *factory) *cobra.Command {
	o := &mountOptions{f: f, spec: api.InterceptSpec{FilesOnly: true}}
	cmd := &cobra.Command{
		Use:     "mount WORKLOAD DIR [-c CONTAINER] [--copy]",
		GroupID: groupOther,
		Short:   "Show the volumes of a workload's container in a folder of this laptop",
		Long: `Show the volumes of a workload's container, ConfigMaps and Secrets among them, in
a folder of this laptop: at the container's own paths below DIR, live, for you
alone, until kubectl tele leave WORKLOAD, or quit. No traffic is touched, but a
small agent container joins the workload's pods in one rolling update, and is
gone after leave.

With --copy nothing in the cluster is changed: the container writes its volumes
as an archive, once, and the copies stay until you remove them. Its image needs
sh and tar for that, and you the right to exec into it.

To have files and traffic, there is kubectl tele intercept --mount.`,
		Example: `  # The ConfigMaps, Secrets and disks of Deployment back
  kubectl tele mount back ./root

  # Of a certain container, and to write to its disks
  kubectl tele mount sts/db ./root -c metrics --rw

  # Copies of them
  kubectl tele mount back ./root --copy`,
		RunE:              runE(o),
		ValidArgsFunction: f.completeWorkloads,
	}
	cmd.Flags().StringVarP(&o.spec.Container, "container", "c", "", "`NAME` of the container (default: the one that kubectl exec takes)")
	cmd.Flags().BoolVar(&o.copied, "copy", false, "copy the files once instead")
	cmd.Flags().BoolVar(&o.spec.DirWrite, "rw", false, "let files be changed, which changes those of a pod")
	cmd.Flags().BoolVar(&o.spec.AllowRestart, "allow-restart", false, "accept a rolling update that costs a moment of downtime or data of the pods")
	cmd.Flags().DurationVar(&o.spec.Timeout, "timeout", 3*time.Minute, "how long the rolling update may take")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print warnings and errors only")
	addImageFlag(cmd, &o.image)
	o.output.addFlag(cmd)
	return cmd
}

func (o *mountOptions) complete(cmd *cobra.Command, args []string) (err error) {
	o.sessionArgs = o.f.configArgs(cmd)
	if len(args) != 2 {
		return usageError(fmt.Errorf("a workload and a folder are needed, not %d arguments", len(args)), "kubectl tele mount WORKLOAD DIR")
	}
	for _, flag := range []string{"rw", "output", "timeout", "allow-restart", "agent-image"} {
		if o.copied && cmd.Flags().Changed(flag) {
			return usageError(fmt.Errorf("--copy excludes --%s", flag), "nothing in the cluster is changed, and copies are yours to write")
		}
	}
	o.spec.Workload, o.spec.AgentImage = args[0], agentImage(o.image)
	o.spec.Dir, err = filepath.Abs(args[1])
	return err
}

func (o *mountOptions) validate() error {
	if o.spec.Timeout <= 0 {
		return usageError(fmt.Errorf("--timeout must be more than 0, not %s", o.spec.Timeout))
	}
	if err := o.output.validate(); err != nil {
		return err
	}
	if o.copied {
		return mount.CheckDir(o.spec.Dir)
	}
	return mount.Check(o.spec.Dir)
}

func (o *mountOptions) run(ctx context.Context) error {
	progress := newPrinter(o.f.ErrOut, o.quiet)
	defer progress.close()
	if o.copied {
		return o.copy(ctx, progress)
	}
	client, err := o.f.ensureSession(ctx, o.sessionArgs)
	if err != nil {
		return err
	}
	last, err := client.Intercept(ctx, o.spec, progress.event)
	tellInterrupted(ctx, progress)
	if err != nil {
		return err
	}
	progress.close()
	if len(last.Intercepts) != 1 {
		return errors.New("the session did not say what it shows")
	}
	st := last.Intercepts[0]
	return o.output.print(o.f.Out, st, func(w io.Writer) {
		if !o.quiet {
			_, _ = fmt.Fprintf(w, "Showing container %s of %s in %s\n  take it away: kubectl tele leave %s\n", st.Container, st.Workload, st.Dir, nameOf(st.Workload))
		}
	})
}

// copy has the container write its volumes, and unpacks them.
func (o *mountOptions) copy(ctx context.Context, progress *printer) error {
	c, err := o.f.cluster()
	if err != nil {
		return err
	}
	asked, cancel := context.WithTimeoutCause(ctx, clusterLimit, fmt.Errorf("the cluster did not answer within %s", clusterLimit))
	defer cancel()
	workloads, _, err := c.Kinds().Named(asked, c.Client(), c.Namespace(), o.spec.Workload)
	if err != nil {
		return err
	}
	archive, err := c.Archive(asked, workload.WithPods(workloads), o.spec.Container)
	if err != nil {
		return err
	}
	progress.event(api.Event{Text: fmt.Sprintf("copying the volumes of container %s in pod %s", archive.Container, archive.Pod)})
	copied, err := mount.Unpack(ctx, o.spec.Dir, archive.Open)
	if err != nil {
		return archive.Explain(err)
	}
	for _, line := range copied.Lines() {
		progress.event(api.Event{Text: line, Warning: true})
	}
	progress.close()
	if o.quiet {
		return nil
	}
	_, _ = fmt.Fprintf(o.f.Out, "Copied to %s: %s\n", o.spec.Dir, copied)
	return nil
}
