package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// explainLimit bounds asking which right is missing.
const explainLimit = 3 * time.Second

// Explain returns err with what its reader needs to know: that the cluster does
// not answer, if err is about the way to it, or which rights the feature lacks,
// if the API server refused something. Other errors are returned as they are.
// feature may be empty.
func (c *Cluster) Explain(ctx context.Context, err error, feature access.Feature) error {
	if err == nil {
		return nil
	}
	if way, ok := errors.AsType[*url.Error](err); ok {
		why := way.Err
		if errors.Is(why, context.DeadlineExceeded) || errors.Is(why, os.ErrDeadlineExceeded) {
			why = errors.New("it took too long")
		}
		return hint.With(fmt.Errorf("the cluster at %s does not answer: %w", c.server, why),
			"`kubectl version` shows whether kubectl reaches it; --context chooses another cluster")
	}
	status := rootStatus(err)
	if apierrors.IsNotFound(status) && kindOf(status) == "namespaces" {
		return hint.With(err, "-n chooses another namespace; `kubectl get namespaces` lists them")
	}
	if !apierrors.IsForbidden(status) {
		return err
	}
	return c.explainForbidden(ctx, err, feature)
}

func (c *Cluster) explainForbidden(ctx context.Context, err error, feature access.Feature) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), explainLimit)
	defer cancel()
	missing, checkErr := c.missingRights(ctx, feature)
	if checkErr != nil || len(missing) == 0 {
		return hint.With(err, "this takes the ClusterRole `edit` in namespace "+c.cfg.Namespace+", or as much as that", "-n chooses another namespace")
	}
	return &access.MissingError{Feature: feature, Namespace: c.cfg.Namespace, Rights: missing}
}

// missingRights asks the API server which rights the feature lacks. The right to
// port-forward counts as there for a user who may exec.
func (c *Cluster) missingRights(ctx context.Context, feature access.Feature) ([]access.Right, error) {
	rights, err := access.Check(ctx, c.cfg.Client.AuthorizationV1(), c.cfg.Namespace, access.Needs(feature))
	if err == nil && slices.Contains(rights, access.PortForward()) && c.mayOnlyExec(ctx) {
		rights = slices.DeleteFunc(rights, func(r access.Right) bool { return r == access.PortForward() })
	}
	return rights, err
}
