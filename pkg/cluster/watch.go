package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// client is the part of a typed client that lists and watches one kind of
// objects; L is the type of their list.
type client[L runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// Objects returns the objects of a typed client, such as CoreV1().Pods(ns), that
// the selectors in selected select, for Watch.
func Objects[L runtime.Object](objects client[L], selected metav1.ListOptions) cache.ListerWatcher {
	narrow := func(o *metav1.ListOptions) {
		o.LabelSelector, o.FieldSelector = selected.LabelSelector, selected.FieldSelector
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			narrow(&o)
			return objects.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			narrow(&o)
			return objects.Watch(ctx, o)
		},
	}
}

// seenAgainEvery is how often a Watcher is told of every object again.
const seenAgainEvery = time.Hour

// Watcher is told what Watch sees, one call at a time.
type Watcher struct {
	// Seen is called for each of the objects that there is, and again whenever
	// one is added, updated or deleted, and every hour.
	Seen func(obj runtime.Object, deleted bool)
	// Synced, if set, is called once Seen has been called for every object that
	// was there at the beginning.
	Synced func()
}

// Watch tells w of objects. It returns when ctx has ended and the last call has
// returned. A list or watch that fails is repeated, with backoff. example is an
// object of the kind.
func (c *Cluster) Watch(ctx context.Context, objects cache.ListerWatcher, example runtime.Object, w Watcher) {
	informer := cache.NewSharedIndexInformer(objects, example, seenAgainEvery, nil)
	call := func(obj any, deleted bool) {
		if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		if object, ok := obj.(runtime.Object); ok {
			w.Seen(object, deleted)
		}
	}
	// Both can fail only for an informer that has been started.
	_ = informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		c.cfg.Log.Debug("watch interrupted", "kind", fmt.Sprintf("%T", example), "err", err)
	})
	registered, _ := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { call(obj, false) },
		UpdateFunc: func(_, obj any) { call(obj, false) },
		DeleteFunc: func(obj any) { call(obj, true) },
	})
	var wg sync.WaitGroup
	defer wg.Wait()
	if w.Synced != nil && registered != nil {
		wg.Go(func() {
			if cache.WaitForCacheSync(ctx.Done(), registered.HasSynced) {
				w.Synced()
			}
		})
	}
	informer.RunWithContext(ctx)
}
