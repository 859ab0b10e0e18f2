package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
	agentapi "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/portforward"
)

// execCheckLimit bounds asking whether the user may exec instead.
const execCheckLimit = 3 * time.Second

// DialAgent connects to an agent's control port: by port-forward or, for a user
// who may only exec, by exec. Which of the two works is remembered.
func (c *Cluster) DialAgent(ctx context.Context, pod string, port uint16) (net.Conn, error) {
	switch {
	case c.cfg.Dial != nil:
		return c.cfg.Dial(ctx, pod, port)
	case c.dialer == nil:
		return nil, errors.New("there is no connection to the API server to reach agents through")
	case c.byExec.Load():
		return c.execAgent(pod, port)
	}
	conn, err := c.dialer.Dial(ctx, c.cfg.Namespace, pod, port)
	if !apierrors.IsForbidden(rootStatus(err)) || !c.mayOnlyExec(ctx) {
		return conn, err
	}
	c.cfg.Log.Info("port-forward is forbidden, exec takes its place")
	c.byExec.Store(true)
	return c.execAgent(pod, port)
}

func (c *Cluster) execAgent(pod string, port uint16) (net.Conn, error) {
	return c.dialer.Exec(portforward.ExecAddr{
		Namespace: c.cfg.Namespace, Pod: pod, Container: agentapi.ContainerName,
		Command: []string{agentapi.Binary, "stdio", fmt.Sprintf("--control-port=%d", port)},
	})
}

// mayOnlyExec reports whether the user may exec but not port-forward. It asks
// for both rights, as an API server that has just been started forbids
// everything for a moment.
func (c *Cluster) mayOnlyExec(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, execCheckLimit)
	defer cancel()
	missing, err := access.Check(ctx, c.cfg.Client.AuthorizationV1(), c.cfg.Namespace, []access.Right{access.PortForward(), access.Exec()})
	return err == nil && slices.Equal(missing, []access.Right{access.PortForward()})
}
