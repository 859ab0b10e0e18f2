package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

const (
	// lookEvery is how often a rollout is looked at when nothing says that it
	// has changed.
	lookEvery = 2 * time.Second
	// lookPause is the least time between two looks.
	lookPause = 200 * time.Millisecond
	// maxFailures is how many looks in a row may fail: about half a minute.
	maxFailures = 15
)

// Rollout is a rollout to wait for.
type Rollout struct {
	Workload   *Workload
	Generation int64 // of the workload's object; a later one will do
	// Changed, if set, returns a channel that is closed at the next change of
	// the workload or its pods. It only says when to look: what counts is read
	// afresh, so that a missed or late event does no harm.
	Changed func() <-chan struct{}
	// Report, if set, is called whenever the progress has changed.
	Report func(Progress)
}

// Wait returns when the rollout is complete: every pod is of the new kind and
// available, and no old one is left but those that drain.
//
// It ends with a *RolloutError at the first thing that will not mend itself: an
// image that cannot be pulled, a container that cannot start or keeps dying, a
// pod that is not admitted, the controller's own deadline. It ends with an error
// that wraps ctx.Err() and says what it was waiting for when ctx ends. Short
// failures of the API server are survived.
func (r Rollout) Wait(ctx context.Context, client kubernetes.Interface) error {
	last := Progress{Waiting: "the API server's answer"}
	failures := 0
	for {
		var changed <-chan struct{}
		if r.Changed != nil {
			changed = r.Changed()
		}
		progress, err := r.look(ctx, client)
		var unread *readError
		switch {
		case ctx.Err() != nil:
			return r.timedOut(ctx, last)
		case err == nil:
			failures = 0
			if progress != last && r.Report != nil {
				r.Report(progress)
			}
			last = progress
			if progress.Completed {
				return nil
			}
		case errors.As(err, &unread) && failures < maxFailures && mayPass(err):
			failures++
		default:
			return err
		}
		if !pause(ctx, changed) {
			return r.timedOut(ctx, last)
		}
	}
}

// look reads everything and judges it.
func (r Rollout) look(ctx context.Context, client kubernetes.Interface) (Progress, error) {
	w := r.Workload
	obj, err := w.Kind.Store(client, w.Namespace()).Get(ctx, w.Name)
	if err != nil {
		return Progress{}, &readError{fmt.Errorf("reading %s: %w", w, err)}
	}
	return w.Kind.Controller(client).Progress(ctx, w.Kind.View(obj), r.Generation)
}

// readError is a failure to read what a rollout is judged by.
type readError struct{ error }

func (e *readError) Unwrap() error { return e.error }

func (r Rollout) timedOut(ctx context.Context, last Progress) error {
	return &hint.Error{
		Fact: fmt.Sprintf("the rollout of %s did not become complete in time: %s", r.Workload, last),
		Mend: fmt.Sprintf("kubectl describe %s and its pods say more; --timeout waits longer", r.Workload),
		Err:  ctx.Err(),
	}
}

// mayPass reports whether an error of the API may pass by itself.
func mayPass(err error) bool {
	return !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err)
}

// pause waits until it is time for the next look; false when ctx has ended.
func pause(ctx context.Context, changed <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(lookPause):
	}
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-time.After(lookEvery - lookPause):
	}
	return true
}
