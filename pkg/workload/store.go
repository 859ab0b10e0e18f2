package workload

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	corev1 "k8s.io/api/core/v1"
)

// Object is an object of the API.
type Object interface {
	metav1.Object
	runtime.Object
}

// Store is the objects of one kind in one namespace. Its errors are the API's.
type Store interface {
	Get(ctx context.Context, name string) (Object, error)
	List(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
	Patch(ctx context.Context, name string, kind types.PatchType, data []byte, opts metav1.PatchOptions) (Object, error)
}

// Services is the Store of the namespace's Services.
func Services(client kubernetes.Interface, ns string) Store {
	return typedStore[*corev1.Service, *corev1.ServiceList]{client.CoreV1().Services(ns)}
}

// ListAll returns the objects that a Store lists.
func ListAll(ctx context.Context, s Store, opts metav1.ListOptions) ([]Object, error) {
	list, err := s.List(ctx, opts)
	if err != nil {
		return nil, err
	}
	var all []Object
	err = meta.EachListItem(list, func(item runtime.Object) error {
		obj, ok := item.(Object)
		if !ok {
			return fmt.Errorf("a %T is in the list", item)
		}
		all = append(all, obj)
		return nil
	})
	return all, err
}

// typedClient is what client-go's clients of all kinds have in common.
type typedClient[T Object, L runtime.Object] interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error)
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (T, error)
}

// typedStore is a Store over a client of client-go.
type typedStore[T Object, L runtime.Object] struct{ client typedClient[T, L] }

func (s typedStore[T, L]) Get(ctx context.Context, name string) (Object, error) {
	return untyped(s.client.Get(ctx, name, metav1.GetOptions{}))
}

func (s typedStore[T, L]) List(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	return s.client.List(ctx, opts)
}

func (s typedStore[T, L]) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	return s.client.Watch(ctx, opts)
}

func (s typedStore[T, L]) Patch(ctx context.Context, name string, kind types.PatchType, data []byte, opts metav1.PatchOptions) (Object, error) {
	return untyped(s.client.Patch(ctx, name, kind, data, opts))
}

// untyped keeps a nil pointer of an error from becoming an Object that is not
// nil.
func untyped[T Object](obj T, err error) (Object, error) {
	if err != nil {
		return nil, err
	}
	return obj, nil
}

// StoreOf makes a Store of a client of client-go, such as
// client.AppsV1().Deployments(ns).
func StoreOf[T Object, L runtime.Object](client typedClient[T, L]) Store {
	return typedStore[T, L]{client}
}
