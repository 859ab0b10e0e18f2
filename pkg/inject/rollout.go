package inject

import (
	"context"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

const (
	// lookEvery is how often a rollout is looked at when no watch says anything.
	lookEvery = 2 * time.Second
	// lookPause is the least time between two looks.
	lookPause = 200 * time.Millisecond
	// maxFailures is how many looks in a row may fail: about half a minute.
	maxFailures = 15
)

// WaitRollout follows the rollout of the Deployment's generation (or a later
// one) until it is complete: every pod of the new kind and available, no old
// one but those that drain. It calls report, which may be nil, whenever the
// progress has changed.
//
// It ends with a *RolloutError at the first thing that will not mend itself: an
// image that cannot be pulled, a container that cannot start or keeps dying, a
// pod that is not admitted, the Deployment's progress deadline. It ends with an
// error that wraps ctx.Err() and says what it was waiting for when ctx ends.
// Interrupted watches and short failures of the API server are survived.
func WaitRollout(ctx context.Context, client kubernetes.Interface, ns, name string, generation int64, report func(Progress)) error {
	w := &rolloutWatch{client: client, ns: ns, name: name, wake: make(chan struct{}, 1)}
	watching, stop := context.WithCancel(ctx)
	defer w.running.Wait()
	defer stop()

	last := Progress{Waiting: "the API server's answer"}
	failures := 0
	for {
		dep, progress, err := w.look(ctx, generation)
		switch {
		case ctx.Err() != nil:
			return timedOut(ctx, name, last)
		case err == nil:
			failures = 0
			if progress != last && report != nil {
				report(progress)
			}
			last = progress
			if progress.Completed {
				return nil
			}
			w.start(watching, dep)
		case dep == nil && failures < maxFailures && passing(err):
			failures++
		default:
			return err
		}
		if !w.pause(ctx) {
			return timedOut(ctx, name, last)
		}
	}
}

func timedOut(ctx context.Context, name string, last Progress) error {
	return &Error{
		Fact: fmt.Sprintf("the rollout of deployment/%s did not become complete in time: %s", name, last),
		Mend: fmt.Sprintf("kubectl describe deployment/%s and its pods say more; --timeout waits longer", name),
		Err:  ctx.Err(),
	}
}

// passing tells whether an error of the API may pass by itself.
func passing(err error) bool {
	return !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err)
}

// rolloutWatch looks at a Deployment and its pods. Watches only say when to look:
// what counts is read afresh, so that a missed or late event does no harm.
type rolloutWatch struct {
	client   kubernetes.Interface
	ns, name string
	wake     chan struct{}
	running  sync.WaitGroup
	started  bool
}

// look reads everything and judges it. The Deployment is nil if the reading
// failed.
func (w *rolloutWatch) look(ctx context.Context, generation int64) (*appsv1.Deployment, Progress, error) {
	dep, err := w.client.AppsV1().Deployments(w.ns).Get(ctx, w.name, metav1.GetOptions{})
	if err != nil {
		return nil, Progress{}, fmt.Errorf("reading deployment/%s: %w", w.name, err)
	}
	opts := metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(dep.Spec.Selector)}
	sets, err := w.client.AppsV1().ReplicaSets(w.ns).List(ctx, opts)
	if err != nil {
		return nil, Progress{}, fmt.Errorf("listing ReplicaSets of deployment/%s: %w", w.name, err)
	}
	pods, err := w.client.CoreV1().Pods(w.ns).List(ctx, opts)
	if err != nil {
		return nil, Progress{}, fmt.Errorf("listing pods of deployment/%s: %w", w.name, err)
	}
	progress, err := assess(dep, generation, sets.Items, pods.Items)
	return dep, progress, err
}

// start begins watching, once; the goroutines end with ctx.
func (w *rolloutWatch) start(ctx context.Context, dep *appsv1.Deployment) {
	if w.started {
		return
	}
	w.started = true
	w.running.Go(func() {
		w.follow(ctx, func(ctx context.Context) (watch.Interface, error) {
			return w.client.AppsV1().Deployments(w.ns).Watch(ctx, metav1.ListOptions{
				FieldSelector: fields.OneTermEqualSelector("metadata.name", w.name).String(),
			})
		})
	})
	w.running.Go(func() {
		w.follow(ctx, func(ctx context.Context) (watch.Interface, error) {
			return w.client.CoreV1().Pods(w.ns).Watch(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(dep.Spec.Selector)})
		})
	})
}

// follow turns events into wake-ups and begins again when a watch ends.
func (w *rolloutWatch) follow(ctx context.Context, begin func(context.Context) (watch.Interface, error)) {
	for ctx.Err() == nil {
		if watcher, err := begin(ctx); err == nil {
			w.drain(ctx, watcher)
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

func (w *rolloutWatch) drain(ctx context.Context, watcher watch.Interface) {
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case event, ok := <-watcher.ResultChan():
			if !ok || event.Type == watch.Error {
				return
			}
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	}
}

// pause waits until it is time for the next look; false when ctx has ended.
func (w *rolloutWatch) pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(lookPause):
	}
	select {
	case <-ctx.Done():
		return false
	case <-w.wake:
	case <-time.After(lookEvery - lookPause):
	}
	return true
}
