package inject

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
)

// JobOptions say what a session's own agent pod is made of.
type JobOptions struct {
	Agent       Options
	Namespace   string
	Owner       Owner         // Owner.Session names the Job
	IdleExit    time.Duration // default DefaultIdleExit
	PullSecrets []string
}

// ConnectJob is a Job of one pod with an agent: inject method `pod`. The pod
// passes the restricted Pod Security Standard, has no credentials, and labels
// that no Service selects. It ends when it has been unused for IdleExit, and the
// Job is removed a minute later.
func ConnectJob(o JobOptions) (*batchv1.Job, error) {
	if err := o.Agent.validate(); err != nil {
		return nil, err
	}
	if o.Owner.Session == "" {
		return nil, fmt.Errorf("the agent's pod has no session")
	}
	idle := o.IdleExit
	if idle == 0 {
		idle = DefaultIdleExit
	}
	owner, err := o.Owner.encode()
	if err != nil {
		return nil, err
	}
	labels := map[string]string{
		LabelName:                      AppName,
		"app.kubernetes.io/managed-by": FieldManager,
		LabelSession:                   slug(o.Owner.Session),
	}
	podLabels := map[string]string{"sidecar.istio.io/inject": "false"}
	maps.Copy(podLabels, labels)
	var secrets []corev1.LocalObjectReference
	for _, name := range o.PullSecrets {
		secrets = append(secrets, corev1.LocalObjectReference{Name: name})
	}
	return &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{
			Name:        JobName(o.Owner.Session),
			Namespace:   o.Namespace,
			Labels:      labels,
			Annotations: map[string]string{AnnotationOwner: owner},
		},
		Spec: batchv1.JobSpec{
			BackoffLimit:            new(int32(0)),
			TTLSecondsAfterFinished: new(int32(60)),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{
					Labels: podLabels,
					Annotations: map[string]string{
						AnnotationOwner:                                  owner,
						"sidecar.istio.io/inject":                        "false",
						"linkerd.io/inject":                              "disabled",
						"cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
					},
				},
				Spec: corev1.PodSpec{
					RestartPolicy:                 corev1.RestartPolicyNever,
					AutomountServiceAccountToken:  new(false),
					EnableServiceLinks:            new(false),
					TerminationGracePeriodSeconds: new(int64(5)),
					ImagePullSecrets:              secrets,
					SecurityContext: &corev1.PodSecurityContext{
						RunAsNonRoot:   new(true),
						SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
					},
					Containers: []corev1.Container{AgentContainer(o.Agent, nil, idle)},
				},
			},
		},
	}, nil
}

// JobName is the name of a session's Job.
func JobName(session string) string { return "kubectl-tele-" + slug(session) }

// slug makes a label's value and part of a name of any text.
func slug(s string) string {
	if len(s) <= 32 && len(validation.IsDNS1123Label(s)) == 0 {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// DeleteJob deletes a session's Job and its pod. That it is gone already is no
// error.
func DeleteJob(ctx context.Context, client kubernetes.Interface, ns, name string) error {
	background := metav1.DeletePropagationBackground // the default would leave the pod behind
	err := client.BatchV1().Jobs(ns).Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &background})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting job/%s: %w", name, err)
	}
	return nil
}
