package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/portforward"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// archiver writes the paths that are its arguments as a tar archive. Behind one it waits for
// the end of its input before it ends: a container runtime may lose what was written last.
const archiver = `tar -cf - -C / "$@"; code=$?; [ $code -lt 126 ] && cat >/dev/null; exit $code`

// Archive is the volumes of a container in a pod that runs.
type Archive struct {
	Pod, Container string

	cluster *Cluster
	paths   []string
}

// Archive finds the volumes of a workload's container. An empty container means the one
// that `kubectl exec` would take. Nothing is changed.
func (c *Cluster) Archive(ctx context.Context, w *workload.Workload, container string) (*Archive, error) {
	pod, err := c.runningPod(ctx, w, "")
	if err != nil {
		return nil, err
	}
	if pod == nil {
		return nil, fmt.Errorf("%s: %w", w, errNotRunning)
	}
	if container == "" {
		container = workload.DefaultContainer(pod)
	}
	a := &Archive{Pod: pod.Name, Container: container, cluster: c}
	if err := w.HasContainer(container); err != nil {
		return nil, err
	}
	for _, p := range workload.MountPaths(&pod.Spec, container) {
		a.paths = append(a.paths, "."+p)
	}
	if len(a.paths) == 0 {
		return nil, hint.With(fmt.Errorf("container %s of %s has no volumes to copy", container, w), "name another with -c")
	}
	return a, nil
}

// Open has the container write its volumes as a tar archive, with the paths that they have
// there. Reading it fails where the image has no tar, and where the user may not exec; after
// the archive and CloseWrite it says what could not be read. The caller closes it.
func (a *Archive) Open(context.Context) (io.ReadCloser, error) {
	if a.cluster.dialer == nil {
		return nil, errors.New("there is no connection to the API server")
	}
	conn, err := a.cluster.dialer.Exec(portforward.ExecAddr{
		Namespace: a.cluster.Namespace(), Pod: a.Pod, Container: a.Container,
		Command: append([]string{"sh", "-c", archiver, "tar"}, a.paths...),
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// Explain adds to an error of reading an archive what else brings the files.
func (a *Archive) Explain(err error) error {
	agent := "kubectl tele intercept WORKLOAD --mount-copy DIR brings an agent that reads them"
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist): // here, not there: that is told by text only
		return err
	case isNoCommand(err), strings.Contains(err.Error(), "exit code 127"):
		return &hint.Error{Fact: fmt.Sprintf("the image of container %s has no sh or no tar to copy its volumes with", a.Container), Mend: agent, Err: err}
	case apierrors.IsForbidden(rootStatus(err)):
		return hint.With(err, "the right to create pods/exec is needed", agent)
	}
	return err
}
