package inject

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Facts are the namespace around a workload, as far as refusals and warnings
// need it.
type Facts struct {
	Services  []corev1.Service   // those whose ports are to be captured
	Selecting []corev1.Service   // all that select the workload's pods
	Pods      []corev1.Pod       // all of the namespace
	Own       map[types.UID]bool // the pods of the workload
	Workloads []*workload.Workload
	Policies  []networkingv1.NetworkPolicy
	Claims    []corev1.PersistentVolumeClaim
	Monitors  []PodMonitor
	Unknown   []string // what could not be read, by resource
}

// gather reads the Facts about the workload. What may not be read is named in
// Unknown, and is no error.
func gather(ctx context.Context, client kubernetes.Interface, kinds workload.Kinds, w *workload.Workload, services []corev1.Service) (Facts, error) {
	ns := w.Namespace()
	f := Facts{Services: services, Own: map[types.UID]bool{}}
	opts := metav1.ListOptions{}
	for _, step := range []struct {
		resource string
		read     func() error
	}{
		{"services", func() (err error) {
			f.Selecting, err = workload.Selecting(ctx, client, ns, w.Template.Labels)
			return err
		}},
		{"pods", func() error {
			list, err := client.CoreV1().Pods(ns).List(ctx, opts)
			if err != nil {
				return err
			}
			f.Pods = list.Items
			own, err := w.Kind.Controller(client).Pods(ctx, w)
			for i := range own {
				f.Own[own[i].UID] = true
			}
			return err
		}},
		{"workloads", func() (err error) {
			var forbidden []string
			f.Workloads, forbidden, err = listable(ctx, client, kinds, ns)
			f.Unknown = append(f.Unknown, forbidden...)
			return err
		}},
		{"networkpolicies.networking.k8s.io", func() error {
			list, err := client.NetworkingV1().NetworkPolicies(ns).List(ctx, opts)
			if err == nil {
				f.Policies = list.Items
			}
			return err
		}},
		{"persistentvolumeclaims", func() error {
			if !usesClaims(&w.Template.Spec) {
				return nil
			}
			list, err := client.CoreV1().PersistentVolumeClaims(ns).List(ctx, opts)
			if err == nil {
				f.Claims = list.Items
			}
			return err
		}},
	} {
		switch err := step.read(); {
		case apierrors.IsForbidden(err):
			f.Unknown = append(f.Unknown, step.resource)
		case err != nil:
			return Facts{}, fmt.Errorf("reading %s in namespace %s: %w", step.resource, ns, err)
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
