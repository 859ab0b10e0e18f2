package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/mount"
)

type mountOptions struct {
	f             *factory
	workload, dir string
	container     string
	copied        bool
}

func newMountCommand(f *factory) *cobra.Command {
	o := &mountOptions{f: f}
	cmd := &cobra.Command{
		Use:     "mount WORKLOAD DIR --copy [-c CONTAINER]",
		GroupID: groupOther,
		Short:   "Copy the volumes of a workload's container to this laptop",
		Long: `Copy the volumes of a workload's container, ConfigMaps and Secrets among them, to
a folder of this laptop: at the container's own paths below DIR, for you alone.
Nothing in the cluster is changed. The copies stay until you remove them.

The container writes them itself, so its image needs sh and tar, and you the
right to exec into it. Without those, and for files that follow what happens in
the cluster, there is kubectl tele intercept --mount-copy and --mount.`,
		Example: `  # The ConfigMaps, Secrets and disks of Deployment back
  kubectl tele mount back ./root --copy

  # Of a certain container
  kubectl tele mount sts/db ./root --copy -c metrics`,
		RunE:              runE(o),
		ValidArgsFunction: f.completeWorkloads,
	}
	cmd.Flags().StringVarP(&o.container, "container", "c", "", "`NAME` of the container (default: the one that kubectl exec takes)")
	cmd.Flags().BoolVar(&o.copied, "copy", false, "copy the files once")
	return cmd
}

func (o *mountOptions) complete(_ *cobra.Command, args []string) (err error) {
	if len(args) != 2 {
		return usageError(fmt.Errorf("a workload and a folder are needed, not %d arguments", len(args)), "kubectl tele mount WORKLOAD DIR --copy")
	}
	o.workload = args[0]
	o.dir, err = filepath.Abs(args[1])
	return err
}

func (o *mountOptions) validate() error {
	if !o.copied {
		return usageError(errors.New("files are shown live by an intercept alone"), "--copy copies them once", "kubectl tele intercept "+o.workload+" --mount DIR shows them")
	}
	return mount.CheckDir(o.dir)
}

func (o *mountOptions) run(ctx context.Context) error {
	c, err := o.f.cluster()
	if err != nil {
		return err
	}
	asked, cancel := context.WithTimeoutCause(ctx, clusterLimit, fmt.Errorf("the cluster did not answer within %s", clusterLimit))
	defer cancel()
	ref, err := c.Kinds().Parse(o.workload)
	if err != nil {
		return err
	}
	w, err := c.Kinds().Get(asked, c.Client(), c.Namespace(), ref)
	if err != nil {
		return err
	}
	archive, err := c.Archive(asked, w, o.container)
	if err != nil {
		return err
	}
	progress := newPrinter(o.f.ErrOut, false)
	defer progress.close()
	progress.event(api.Event{Text: fmt.Sprintf("copying the volumes of container %s in pod %s", archive.Container, archive.Pod)})
	copied, err := mount.Unpack(ctx, o.dir, archive.Open)
	if err != nil {
		return archive.Explain(err)
	}
	for _, line := range copied.Lines() {
		progress.event(api.Event{Text: line, Warning: true})
	}
	progress.close()
	_, _ = fmt.Fprintf(o.f.Out, "Copied to %s: %s\n", o.dir, copied)
	return nil
}
