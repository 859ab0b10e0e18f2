package workload

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// Named reads what a user named, as Parse reads it: one workload, or all those behind a
// Service that is written as svc/NAME, whose name is returned too. Of a pod or a
// ReplicaSet the hint of the error names the workload that owns it.
func (ks Kinds) Named(ctx context.Context, client kubernetes.Interface, ns, s string) (all []*Workload, service string, err error) {
	word, name, _ := strings.Cut(s, "/")
	switch strings.ToLower(word) {
	case s: // a name alone
	case "svc", "service", "services":
		if err := validName(word, name); err != nil {
			return nil, "", err
		}
		all, err := ks.behind(ctx, client, ns, name)
		return all, name, err
	case "po", "pod", "pods":
		if err := validName(word, name); err != nil {
			return nil, "", err
		}
		pod, err := client.CoreV1().Pods(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, "", fmt.Errorf("reading pod/%s in namespace %s: %w", name, ns, err)
		}
		return nil, "", ks.owned(ctx, client, ns, Ref{Kind: "pod", Name: name}, pod)
	case "rs", "replicaset", "replicasets", "replicasets.apps":
		if err := validName(word, name); err != nil {
			return nil, "", err
		}
		rs, err := client.AppsV1().ReplicaSets(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, "", fmt.Errorf("reading replicaset/%s in namespace %s: %w", name, ns, err)
		}
		return nil, "", ks.owned(ctx, client, ns, Ref{Kind: "replicaset", Name: name}, rs)
	}
	ref, err := ks.Parse(s)
	if err != nil {
		return nil, "", err
	}
	w, err := ks.Get(ctx, client, ns, ref)
	if err != nil {
		return nil, "", err
	}
	return []*Workload{w}, "", nil
}

// WithPods returns the first of several workloads, one or more, that is not scaled to 0; the
// first if all are.
func WithPods(all []*Workload) *Workload {
	if n := slices.IndexFunc(all, func(w *Workload) bool { return w.State.Replicas > 0 }); n > 0 {
		return all[n]
	}
	return all[0]
}

// validName returns an error unless an API server can be asked for the name.
func validName(word, name string) error {
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return &hint.Error{
			Fact: fmt.Sprintf("%q is not a name: %s", name, problems[0]),
			Mend: fmt.Sprintf("it stands after the slash, as in %s/back", word),
		}
	}
	return nil
}

// ServiceNamed reports the name of a Service that is written as svc/NAME.
func ServiceNamed(s string) (name string, ok bool) {
	word, name, found := strings.Cut(s, "/")
	switch strings.ToLower(word) {
	case "svc", "service", "services":
		return name, found
	}
	return "", false
}

// behind returns the workloads whose pods a Service selects.
func (ks Kinds) behind(ctx context.Context, client kubernetes.Interface, ns, name string) ([]*Workload, error) {
	svc, err := client.CoreV1().Services(ns).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, &hint.Error{
			Fact: fmt.Sprintf("there is no service/%s in namespace %s", name, ns),
			Mend: servicesThere(ctx, client, ns, name),
			Err:  err,
		}
	case err != nil:
		return nil, fmt.Errorf("reading service/%s in namespace %s: %w", name, ns, err)
	case len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName:
		return nil, &hint.Error{
			Fact: fmt.Sprintf("service/%s selects no pods", name),
			Mend: "what answers for it is not in this namespace, or is not a pod, so it cannot be intercepted",
		}
	}
	listed, err := ks.List(ctx, client, ns)
	if err != nil {
		return nil, err
	}
	var all []*Workload
	for _, w := range listed {
		if Selects(svc, w.Template.Labels) {
			all = append(all, w)
		}
	}
	if len(all) == 0 {
		return nil, &hint.Error{
			Fact: fmt.Sprintf("service/%s selects the pods of no %s", name, ks.titles()),
			Mend: fmt.Sprintf("kubectl get endpointslices -n %s -l kubernetes.io/service-name=%s shows what it leads to", ns, name),
		}
	}
	return all, nil
}

func servicesThere(ctx context.Context, client kubernetes.Interface, ns, name string) string {
	services, err := ListServices(ctx, client, ns)
	if err != nil {
		return "-n chooses another namespace"
	}
	var names []string
	for i := range services {
		names = append(names, services[i].Name)
	}
	return choices("Service", ns, name, names)
}

// owned is the error about something that a workload may own.
func (ks Kinds) owned(ctx context.Context, client kubernetes.Interface, ns string, ref Ref, obj metav1.Object) error {
	owner := metav1.GetControllerOf(obj)
	if owner != nil && owner.Kind == "ReplicaSet" {
		if rs, err := client.AppsV1().ReplicaSets(ns).Get(ctx, owner.Name, metav1.GetOptions{}); err == nil && metav1.GetControllerOf(rs) != nil {
			owner = metav1.GetControllerOf(rs)
		}
	}
	switch {
	case owner == nil && ref.Kind == "pod":
		return &hint.Error{
			Fact: fmt.Sprintf("%s belongs to no workload: no container can be added to a pod that runs", ref),
			Mend: fmt.Sprintf("run it as a %s", ks.titles()),
		}
	case owner == nil:
		return &hint.Error{
			Fact: fmt.Sprintf("%s belongs to no Deployment: its pods are not replaced when it is changed", ref),
			Mend: "run its pods as a Deployment",
		}
	}
	for _, k := range ks {
		if k.Resource().Title == owner.Kind {
			return &hint.Error{
				Fact: fmt.Sprintf("%s belongs to %s", ref, Ref{Kind: k.Resource().Singular, Name: owner.Name}),
				Mend: fmt.Sprintf("name that, all of whose pods are meant: %s/%s", k.Resource().Singular, owner.Name),
			}
		}
	}
	return &hint.Error{
		Fact: fmt.Sprintf("%s belongs to a %s, %s, which cannot be intercepted", ref, owner.Kind, owner.Name),
		Mend: fmt.Sprintf("a %s can", ks.titles()),
	}
}
