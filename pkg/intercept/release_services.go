package intercept

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// services takes owners out of the records of the Services that lead to the
// workload's agents, and gives back those that nobody needs any more. w is nil when
// the workload is no more.
func (r *release) services(ctx context.Context, w *workload.Workload, leading []corev1.Service) error {
	store := workload.Services(r.cluster.Client(), r.cluster.Namespace())
	for i := range leading {
		ref := workload.Ref{Kind: "service", Name: leading[i].Name}
		var leftovers []string
		undone := false
		_, _, err := inject.Retry(ctx, store, ref, func(now workload.Object) (workload.Object, error) {
			undone, leftovers = false, nil
			kept, left, err := r.without(w, now)
			if err != nil || kept {
				return left, err
			}
			undone = true
			svc, ok := now.(*corev1.Service)
			if !ok {
				return nil, fmt.Errorf("%s is a %T", ref, now)
			}
			out, lines, err := inject.UndoService(svc, inject.CapturesIn(w)...)
			leftovers = lines
			return out, err
		})
		switch {
		case apierrors.IsNotFound(err):
			continue
		case err != nil:
			return err
		case undone:
			r.switched = time.Now()
			r.progress.Done(ref.String() + " leads to the app again")
		}
		for _, line := range leftovers {
			r.progress.Warn(line)
		}
	}
	return nil
}

// leading returns the Services that lead to the workload's agents.
func (r *release) leading(ctx context.Context, w *workload.Workload) ([]corev1.Service, error) {
	ctx, cancel := cluster.RequestContext(ctx)
	defer cancel()
	services, err := workload.ListServices(ctx, r.cluster.Client(), r.cluster.Namespace())
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(services, func(svc corev1.Service) bool { return !inject.LeadsTo(&svc, r.ref, w) }), nil
}
