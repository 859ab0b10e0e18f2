package workload

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
)

// Selecting returns the Services of the namespace whose selector matches pods
// with these labels, in order of their names. A Service without a selector
// selects nothing.
func Selecting(ctx context.Context, client kubernetes.Interface, ns string, podLabels map[string]string) ([]corev1.Service, error) {
	all, err := ListServices(ctx, client, ns)
	if err != nil {
		return nil, err
	}
	var selecting []corev1.Service
	for _, svc := range all {
		if Selects(&svc, podLabels) {
			selecting = append(selecting, svc)
		}
	}
	return selecting, nil
}

// ListServices returns all Services of the namespace.
func ListServices(ctx context.Context, client kubernetes.Interface, ns string) ([]corev1.Service, error) {
	list, err := client.CoreV1().Services(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing Services in namespace %s: %w", ns, err)
	}
	return list.Items, nil
}

// Selects reports whether the Service's selector matches pods with these labels.
func Selects(svc *corev1.Service, podLabels map[string]string) bool {
	if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return false
	}
	return labels.SelectorFromValidatedSet(svc.Spec.Selector).Matches(labels.Set(podLabels))
}
