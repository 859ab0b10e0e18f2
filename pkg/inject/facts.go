package inject

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
)

// Facts are the namespace around a Deployment, as far as Check needs it.
type Facts struct {
	Services    []corev1.Service // those whose ports are to be captured
	Selecting   []corev1.Service // all that select the Deployment's pods
	Pods        []corev1.Pod
	ReplicaSets []appsv1.ReplicaSet
	Deployments []appsv1.Deployment
	Policies    []networkingv1.NetworkPolicy
	Claims      []corev1.PersistentVolumeClaim
	Monitors    []PodMonitor
	Unknown     []string // what could not be read, by resource
}

// Gather reads the Facts about the Deployment. What may not be read is named in
// Unknown, and is no error.
func Gather(ctx context.Context, client kubernetes.Interface, dep *appsv1.Deployment, services []corev1.Service) (Facts, error) {
	ns := dep.Namespace
	f := Facts{Services: services}
	opts := metav1.ListOptions{}
	read := func(resource string, list func() error) error {
		err := list()
		if apierrors.IsForbidden(err) {
			f.Unknown = append(f.Unknown, resource)
			return nil
		}
		if err != nil {
			return fmt.Errorf("listing %s in namespace %s: %w", resource, ns, err)
		}
		return nil
	}
	podLabels := labels.Set(dep.Spec.Template.Labels)
	steps := []struct {
		resource string
		list     func() error
	}{
		{"services", func() error {
			l, err := client.CoreV1().Services(ns).List(ctx, opts)
			if err == nil {
				f.Selecting = slices.DeleteFunc(l.Items, func(s corev1.Service) bool {
					return len(s.Spec.Selector) == 0 || !labels.SelectorFromSet(s.Spec.Selector).Matches(podLabels)
				})
			}
			return err
		}},
		{"pods", func() error {
			l, err := client.CoreV1().Pods(ns).List(ctx, opts)
			if err == nil {
				f.Pods = l.Items
			}
			return err
		}},
		{"replicasets.apps", func() error {
			l, err := client.AppsV1().ReplicaSets(ns).List(ctx, opts)
			if err == nil {
				f.ReplicaSets = l.Items
			}
			return err
		}},
		{"deployments.apps", func() error {
			l, err := client.AppsV1().Deployments(ns).List(ctx, opts)
			if err == nil {
				f.Deployments = l.Items
			}
			return err
		}},
		{"networkpolicies.networking.k8s.io", func() error {
			l, err := client.NetworkingV1().NetworkPolicies(ns).List(ctx, opts)
			if err == nil {
				f.Policies = l.Items
			}
			return err
		}},
		{"persistentvolumeclaims", func() error {
			if !usesClaims(&dep.Spec.Template.Spec) {
				return nil
			}
			l, err := client.CoreV1().PersistentVolumeClaims(ns).List(ctx, opts)
			if err == nil {
				f.Claims = l.Items
			}
			return err
		}},
	}
	for _, s := range steps {
		if err := read(s.resource, s.list); err != nil {
			return Facts{}, err
		}
	}
	f.Monitors = podMonitors(ctx, client, ns)
	return f, nil
}

func usesClaims(spec *corev1.PodSpec) bool {
	for _, v := range spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			return true
		}
	}
	return false
}
