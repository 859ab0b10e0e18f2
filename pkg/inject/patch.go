package inject

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
)

// Patch brings the difference between old and changed to the API server, on
// condition that the object there is still old: otherwise the API's Conflict is
// returned. Fields that this program does not know stay. Without a difference
// nothing is sent and old is returned.
func Patch[T Object](ctx context.Context, client kubernetes.Interface, old, changed T) (T, error) {
	if equality.Semantic.DeepEqual(old, changed) {
		return old, nil
	}
	kind, data, err := PatchData(old, changed)
	if err != nil {
		return nil, err
	}
	var out any
	opts := metav1.PatchOptions{FieldManager: FieldManager}
	switch o := any(old).(type) {
	case *appsv1.Deployment:
		out, err = client.AppsV1().Deployments(o.Namespace).Patch(ctx, o.Name, kind, data, opts)
	case *corev1.Service:
		out, err = client.CoreV1().Services(o.Namespace).Patch(ctx, o.Name, kind, data, opts)
	}
	if err != nil {
		return nil, fmt.Errorf("patching %s: %w", describe(old), err)
	}
	return out.(T), nil
}

// PatchData is the patch that Patch sends: a strategic merge patch with old's
// resourceVersion. Where such a patch cannot say the difference (two ports with
// one number and different protocols), it is a JSON merge patch.
func PatchData[T Object](old, changed T) (types.PatchType, []byte, error) {
	from, err := json.Marshal(old)
	if err != nil {
		return "", nil, fmt.Errorf("encoding %s: %w", describe(old), err)
	}
	to, err := json.Marshal(changed)
	if err != nil {
		return "", nil, fmt.Errorf("encoding %s: %w", describe(old), err)
	}
	kind := types.StrategicMergePatchType
	patch, err := strategicpatch.CreateTwoWayMergePatch(from, to, old)
	if err != nil || !yields(from, patch, changed) {
		kind = types.MergePatchType
		if patch, err = jsonmergepatch.CreateThreeWayJSONMergePatch(from, to, from); err != nil {
			return "", nil, fmt.Errorf("computing the patch of %s: %w", describe(old), err)
		}
	}
	var doc map[string]any
	if err := json.Unmarshal(patch, &doc); err != nil {
		return "", nil, fmt.Errorf("computing the patch of %s: %w", describe(old), err)
	}
	if version := old.GetResourceVersion(); version != "" {
		metadata, ok := doc["metadata"].(map[string]any)
		if !ok {
			metadata = map[string]any{}
			doc["metadata"] = metadata
		}
		metadata["resourceVersion"] = version
	}
	patch, err = json.Marshal(doc)
	return kind, patch, err
}

// yields tells whether the strategic merge patch makes changed of from, by the
// API server's own algorithm.
func yields[T Object](from, patch []byte, changed T) bool {
	var zero T
	result, err := strategicpatch.StrategicMergePatch(from, patch, changed)
	if err != nil {
		return false
	}
	var got any
	switch any(zero).(type) {
	case *appsv1.Deployment:
		got = &appsv1.Deployment{}
	default:
		got = &corev1.Service{}
	}
	return json.Unmarshal(result, got) == nil && equality.Semantic.DeepEqual(got, any(changed))
}

func describe(obj metav1.Object) string {
	if _, ok := obj.(*corev1.Service); ok {
		return "service/" + obj.GetName()
	}
	return "deployment/" + obj.GetName()
}

// maxTries bounds Retry. The Deployment controller writes the status of a
// Deployment many times during a rollout, and each write is a conflict.
const maxTries = 12

// Retry gets the object, changes it with mutate, and patches it; on a conflict
// again from the start, on fresh data, a limited number of times. An error of get
// or mutate ends it at once. It returns the object as the API server has it.
func Retry[T Object](ctx context.Context, client kubernetes.Interface, get func(context.Context) (T, error), mutate func(T) (T, error)) (T, error) {
	pause := 20 * time.Millisecond
	for try := 1; ; try++ {
		old, err := get(ctx)
		if err != nil {
			return nil, err
		}
		changed, err := mutate(old)
		if err != nil {
			return nil, err
		}
		out, err := Patch(ctx, client, old, changed)
		if err == nil || !apierrors.IsConflict(err) {
			return out, err
		}
		if try == maxTries {
			return nil, fmt.Errorf("others kept changing it: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("patching %s: %w", describe(old), ctx.Err())
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, time.Second)
	}
}

// RetryDeployment is Retry for the Deployment of that name.
func RetryDeployment(ctx context.Context, client kubernetes.Interface, ns, name string, mutate func(*appsv1.Deployment) (*appsv1.Deployment, error)) (*appsv1.Deployment, error) {
	return Retry(ctx, client, func(ctx context.Context) (*appsv1.Deployment, error) {
		dep, err := client.AppsV1().Deployments(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("reading deployment/%s: %w", name, err)
		}
		return dep, nil
	}, mutate)
}

// RetryService is Retry for the Service of that name.
func RetryService(ctx context.Context, client kubernetes.Interface, ns, name string, mutate func(*corev1.Service) (*corev1.Service, error)) (*corev1.Service, error) {
	return Retry(ctx, client, func(ctx context.Context) (*corev1.Service, error) {
		svc, err := client.CoreV1().Services(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("reading service/%s: %w", name, err)
		}
		return svc, nil
	}, mutate)
}
