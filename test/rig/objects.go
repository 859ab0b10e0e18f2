//go:build linux

package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// fieldManager is who applies the test applications.
const fieldManager = "tele-test"

const readyEvery = 200 * time.Millisecond

// apply is a server-side apply, so that it may be repeated.
func (r *Rig) apply(ctx context.Context, obj runtime.Object) error {
	data, err := json.Marshal(obj)
	if err != nil {
		return err
	}
	force := true
	opts := metav1.PatchOptions{FieldManager: fieldManager, Force: &force}
	switch o := obj.(type) {
	case *appsv1.Deployment:
		_, err = r.Admin.AppsV1().Deployments(o.Namespace).Patch(ctx, o.Name, types.ApplyPatchType, data, opts)
	case *appsv1.StatefulSet:
		_, err = r.Admin.AppsV1().StatefulSets(o.Namespace).Patch(ctx, o.Name, types.ApplyPatchType, data, opts)
	case *corev1.Service:
		_, err = r.Admin.CoreV1().Services(o.Namespace).Patch(ctx, o.Name, types.ApplyPatchType, data, opts)
	default:
		err = fmt.Errorf("a test application has no %T", obj)
	}
	if err != nil {
		return fmt.Errorf("apply a test application: %w", err)
	}
	return nil
}

func (r *Rig) delete(ctx context.Context, obj runtime.Object, namespace, name string) error {
	var err error
	background := metav1.DeletePropagationBackground
	opts := metav1.DeleteOptions{PropagationPolicy: &background}
	switch obj.(type) {
	case *appsv1.Deployment:
		err = r.Admin.AppsV1().Deployments(namespace).Delete(ctx, name, opts)
	case *appsv1.StatefulSet:
		err = r.Admin.AppsV1().StatefulSets(namespace).Delete(ctx, name, opts)
	case *corev1.Service:
		err = r.Admin.CoreV1().Services(namespace).Delete(ctx, name, opts)
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// waitReady returns when every replica of an application is ready.
func (r *Rig) waitReady(ctx context.Context, app manifests.App) error {
	last := ""
	err := wait.PollUntilContextCancel(ctx, readyEvery, true, func(ctx context.Context) (bool, error) {
		switch {
		case app.Deployment != nil:
			d, err := r.Admin.AppsV1().Deployments(app.Deployment.Namespace).Get(ctx, app.Deployment.Name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			st := d.Status
			last = fmt.Sprintf("deployment/%s has %d of %d pods ready", d.Name, st.AvailableReplicas, *d.Spec.Replicas)
			return st.ObservedGeneration >= d.Generation && st.UpdatedReplicas == *d.Spec.Replicas &&
				st.Replicas == st.UpdatedReplicas && st.AvailableReplicas == st.UpdatedReplicas, nil
		case app.StatefulSet != nil:
			s, err := r.Admin.AppsV1().StatefulSets(app.StatefulSet.Namespace).Get(ctx, app.StatefulSet.Name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			last = fmt.Sprintf("statefulset/%s has %d of %d pods ready", s.Name, s.Status.AvailableReplicas, *s.Spec.Replicas)
			return s.Status.ObservedGeneration >= s.Generation && s.Status.AvailableReplicas == *s.Spec.Replicas, nil
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", last, err)
	}
	return nil
}
