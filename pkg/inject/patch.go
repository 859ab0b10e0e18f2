package inject

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Update is a change of an object: a pure function of the object as it is now.
// It does not change its argument.
type Update func(now workload.Object) (workload.Object, error)

// Patch brings the difference between old and changed to the API server, on
// condition that the object there is still old: otherwise the API's Conflict is
// returned. Fields that this program does not know stay. Without a difference
// nothing is sent and old is returned.
func Patch(ctx context.Context, store workload.Store, ref workload.Ref, old, changed workload.Object) (workload.Object, error) {
	if equality.Semantic.DeepEqual(old, changed) {
		return old, nil
	}
	kind, data, err := PatchData(old, changed)
	if err != nil {
		return nil, fmt.Errorf("computing the patch of %s: %w", ref, err)
	}
	out, err := store.Patch(ctx, old.GetName(), kind, data, metav1.PatchOptions{FieldManager: FieldManager})
	if err != nil {
		return nil, fmt.Errorf("patching %s: %w", ref, err)
	}
	return out, nil
}

// PatchData returns the patch that Patch sends: a strategic merge patch with
// old's resourceVersion. Where such a patch cannot say the difference (two ports
// with one number and different protocols), it is a JSON merge patch, which replaces
// lists whole: what this program does not know of their elements is lost then.
func PatchData(old, changed workload.Object) (types.PatchType, []byte, error) {
	from, err := json.Marshal(old)
	if err != nil {
		return "", nil, err
	}
	to, err := json.Marshal(changed)
	if err != nil {
		return "", nil, err
	}
	kind := types.StrategicMergePatchType
	patch, err := strategicpatch.CreateTwoWayMergePatch(from, to, old)
	if err != nil || !yields(from, patch, changed) {
		kind = types.MergePatchType
		if patch, err = jsonmergepatch.CreateThreeWayJSONMergePatch(from, to, from); err != nil {
			return "", nil, err
		}
	}
	var doc map[string]any
	if err := json.Unmarshal(patch, &doc); err != nil {
		return "", nil, err
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

// yields reports whether the strategic merge patch makes changed of from, by the
// API server's own algorithm.
func yields(from, patch []byte, changed workload.Object) bool {
	result, err := strategicpatch.StrategicMergePatch(from, patch, changed)
	if err != nil {
		return false
	}
	got := reflect.New(reflect.TypeOf(changed).Elem()).Interface()
	return json.Unmarshal(result, got) == nil && equality.Semantic.DeepEqual(got, any(changed))
}

// conflictBackoff bounds Retry to about ten seconds. A controller writes the
// status of a workload many times during a rollout, and each write is a conflict.
func conflictBackoff() wait.Backoff {
	return wait.Backoff{Duration: 20 * time.Millisecond, Factor: 1.6, Jitter: 0.5, Steps: 12}
}

// requestLimit bounds each request of Retry. Webhooks, which take part in a patch,
// may take as long.
const requestLimit = 30 * time.Second

func requestContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, requestLimit, fmt.Errorf("the API server did not answer within %s", requestLimit))
}

// Retry reads the object that ref names, changes it with update, and patches it;
// on a conflict again from the start, on fresh data, a limited number of times.
// Any other error ends it at once. It returns the object as it was last read and
// as the API server has it now.
func Retry(ctx context.Context, store workload.Store, ref workload.Ref, update Update) (before, after workload.Object, err error) {
	var conflict error // of the last try
	err = wait.ExponentialBackoffWithContext(ctx, conflictBackoff(), func(ctx context.Context) (bool, error) {
		conflict = nil
		ctx, cancel := requestContext(ctx)
		defer cancel()
		if before, err = store.Get(ctx, ref.Name); err != nil {
			return false, fmt.Errorf("reading %s: %w", ref, err)
		}
		changed, err := update(before)
		if err != nil {
			return false, err
		}
		after, err = Patch(ctx, store, ref, before, changed)
		if apierrors.IsConflict(err) {
			conflict = err
			return false, nil
		}
		return err == nil, err
	})
	switch {
	case err == nil:
		return before, after, nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return nil, nil, fmt.Errorf("patching %s: %w", ref, context.Cause(ctx))
	case conflict != nil:
		return nil, nil, fmt.Errorf("others kept changing it: %w", conflict)
	}
	return nil, nil, err
}
