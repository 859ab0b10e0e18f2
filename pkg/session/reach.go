package session

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/portforward"
)

// execCheckLimit bounds asking whether the user may exec instead.
const execCheckLimit = 3 * time.Second

// dialAgent makes one connection to an agent's control port: by port-forward,
// or by exec for users who may do that alone, which is remembered.
func (c *Cluster) dialAgent(ctx context.Context, pod string, port uint16) (net.Conn, error) {
	if c.byExec.Load() {
		return c.execAgent(pod, port)
	}
	conn, err := c.forward.Dial(ctx, c.namespace, pod, port)
	if !apierrors.IsForbidden(rootStatus(err)) || !c.mayOnlyExec(ctx) {
		return conn, err
	}
	c.log.Info("port-forward is forbidden, exec takes its place")
	c.byExec.Store(true)
	return c.execAgent(pod, port)
}

func (c *Cluster) execAgent(pod string, port uint16) (net.Conn, error) {
	return c.forward.Exec(portforward.ExecAddr{
		Namespace: c.namespace, Pod: pod, Container: api.ContainerName,
		Command: []string{api.Binary, "stdio", fmt.Sprintf("--control-port=%d", port)},
	})
}

// mayOnlyExec asks for both rights at once, as an API server that has just been
// started forbids everything for a moment.
func (c *Cluster) mayOnlyExec(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, execCheckLimit)
	defer cancel()
	missing, err := access.Check(ctx, c.client.AuthorizationV1(), c.namespace, []access.Right{access.PortForward(), access.Exec()})
	return err == nil && slices.Equal(missing, []access.Right{access.PortForward()})
}

// missing asks which rights a feature lacks. Who may exec does not lack
// port-forward.
func (c *Cluster) missing(ctx context.Context, feature access.Feature) ([]access.Right, error) {
	rights, err := access.Check(ctx, c.client.AuthorizationV1(), c.namespace, access.Needs(feature))
	if err == nil && slices.Contains(rights, access.PortForward()) && c.mayOnlyExec(ctx) {
		rights = slices.DeleteFunc(rights, func(r access.Right) bool { return r == access.PortForward() })
	}
	return rights, err
}
