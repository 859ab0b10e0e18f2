package inject

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// DryRun asks the API server whether it would admit a pod made from the
// template: Pod Security, quotas, limit ranges and policies judge pods, not the
// Deployments they come from. A refusal comes back as an *hint.Error with the exact
// violation. checked is false, without an error, when it could not be asked: no
// right to create pods, or an admission webhook that knows no dry run.
func DryRun(ctx context.Context, client kubernetes.Interface, ns string, template corev1.PodTemplateSpec) (checked bool, err error) {
	t := template.DeepCopy()
	pod := &corev1.Pod{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
	pod.Name, pod.Namespace, pod.GenerateName = "", ns, dryRunName
	_, err = client.CoreV1().Pods(ns).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: FieldManager})
	switch {
	case err == nil:
		return true, nil
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "cannot create resource"),
		strings.Contains(err.Error(), "does not support dry run"):
		return false, nil
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return true, &hint.Error{
			Fact: fmt.Sprintf("namespace %s would not admit the pod with the agent: %s", ns, violation(err)),
			Mend: dryRunHint(err),
			Err:  err,
		}
	}
	return false, fmt.Errorf("asking namespace %s whether it would admit the pod with the agent: %w", ns, err)
}

const dryRunName = "kubectl-tele-dry-run-"

// violation is the API server's text without the made-up pod's name.
func violation(err error) string {
	text := err.Error()
	if _, after, found := strings.Cut(text, "is forbidden: "); found {
		return after
	}
	if _, after, found := strings.Cut(text, "is invalid: "); found {
		return after
	}
	return text
}

func dryRunHint(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "violates PodSecurity"):
		return "the agent's container passes the restricted standard; the violation is of the pod's own making or of another policy"
	case strings.Contains(text, "exceeded quota"), strings.Contains(text, "failed quota"):
		return "the quota must leave room for one more pod with the agent (10m CPU, 32Mi memory; limit 128Mi)"
	case strings.Contains(text, "usage per"):
		return "a LimitRange of the namespace forbids it"
	}
	return ""
}

// NeedsCPULimit reports whether a refusal of DryRun is about a missing CPU limit,
// which WithCPULimit mends.
func NeedsCPULimit(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "must specify limits.cpu") ||
		strings.Contains(err.Error(), "must specify") && strings.Contains(err.Error(), "limits.cpu"))
}
