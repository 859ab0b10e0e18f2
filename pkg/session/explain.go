package session

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// explainLimit bounds asking which right is missing.
const explainLimit = 3 * time.Second

// explain says of an error on the way to the cluster that it is one, and adds
// to a refusal by the API server which rights the feature lacks. feature may
// be empty.
func (c *Cluster) explain(ctx context.Context, err error, feature access.Feature) error {
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
	missing, checkErr := c.missing(ctx, feature)
	if checkErr != nil || len(missing) == 0 {
		return hint.With(err, "this takes the ClusterRole `edit` in namespace "+c.namespace+", or as much as that", "-n chooses another namespace")
	}
	return &access.MissingError{Feature: feature, Namespace: c.namespace, Rights: missing}
}

// rootStatus finds the API server's answer in a chain of errors.
func rootStatus(err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		if e, ok := status.(error); ok {
			return e
		}
	}
	return err
}

// kindOf is the resource that an answer of the API server is about.
func kindOf(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil {
		return status.Status().Details.Kind
	}
	return ""
}
