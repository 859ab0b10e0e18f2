package inject

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Uses lists, a line each, everything in the facts that uses a container port's
// name, and so will lead to the agent once it has the name: Services other than
// captured ones (by name), and NetworkPolicies. services are all that select the
// pods.
func Uses(dep *appsv1.Deployment, name string, services []corev1.Service, captured []string, policies []networkingv1.NetworkPolicy) []string {
	var uses []string
	for i := range services {
		svc := &services[i]
		if slices.Contains(captured, svc.Name) {
			continue
		}
		for _, p := range svc.Spec.Ports {
			if p.TargetPort.Type == intstr.String && p.TargetPort.StrVal == name && isTCP(p.Protocol) {
				uses = append(uses, fmt.Sprintf("service/%s (port %d) leads to port %q and will lead to the agent too", svc.Name, p.Port, name))
			}
		}
	}
	for i := range policies {
		p := &policies[i]
		if !matches(&p.Spec.PodSelector, dep.Spec.Template.Labels) {
			continue
		}
		for _, r := range p.Spec.Ingress {
			for _, port := range r.Ports {
				if port.Port != nil && port.Port.Type == intstr.String && port.Port.StrVal == name {
					uses = append(uses, fmt.Sprintf("networkpolicy/%s names port %q and will speak of the agent's port", p.Name, name))
				}
			}
		}
	}
	return slices.Compact(uses)
}

// Uses is the function of that name for the Deployment of the facts, with
// PodMonitors too.
func (f Facts) Uses(dep *appsv1.Deployment, name string, captured []string) []string {
	uses := Uses(dep, name, f.Selecting, captured, f.Policies)
	for _, m := range f.Monitors {
		if !matches(&m.Spec.Selector, dep.Spec.Template.Labels) {
			continue
		}
		for _, e := range m.Spec.Endpoints {
			if e.Port == name {
				uses = append(uses, fmt.Sprintf("podmonitor/%s scrapes port %q and will scrape through the agent", m.Metadata.Name, name))
			}
		}
	}
	return slices.Compact(uses)
}

// Warnings lists what a user should know beforehand about the Services to be
// captured.
func Warnings(plan Plan, services []corev1.Service) []string {
	var lines []string
	for i := range services {
		if services[i].Spec.ClusterIP == corev1.ClusterIPNone {
			lines = append(lines, fmt.Sprintf("service/%s is headless: clients that go to a pod's address with the app's own port number still reach the app", services[i].Name))
		}
	}
	return lines
}

// Managers lists, a line each, what seems to own the Deployment and may revert
// our change: Argo CD, Flux, Helm and their like.
func Managers(dep *appsv1.Deployment) []string {
	var lines []string
	add := func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	value := func(key string) string {
		if v, ok := dep.Labels[key]; ok {
			return v
		}
		return dep.Annotations[key]
	}
	if v := value("argocd.argoproj.io/tracking-id"); v != "" {
		app, _, _ := strings.Cut(v, ":")
		add("deployment/%s is kept by Argo CD (application %s): if it heals by itself it will take the agent away again", dep.Name, app)
	} else if v := value("argocd.argoproj.io/instance"); v != "" {
		add("deployment/%s is kept by Argo CD (application %s): if it heals by itself it will take the agent away again", dep.Name, v)
	}
	if v := value("kustomize.toolkit.fluxcd.io/name"); v != "" {
		add("deployment/%s is kept by Flux (Kustomization %s): its next reconciliation may take the agent away again", dep.Name, v)
	}
	if v := value("helm.toolkit.fluxcd.io/name"); v != "" {
		add("deployment/%s is kept by Flux (HelmRelease %s): its next reconciliation may take the agent away again", dep.Name, v)
	}
	if v := value("meta.helm.sh/release-name"); v != "" {
		add("deployment/%s belongs to Helm release %s: an upgrade meanwhile may give the port its name back", dep.Name, v)
	}
	if len(lines) > 0 {
		return lines
	}
	known := map[string]string{
		"argocd-controller": "Argo CD", "argocd-application-controller": "Argo CD",
		"kustomize-controller": "Flux", "helm-controller": "Flux", "fleetagent": "Fleet",
	}
	for _, m := range dep.ManagedFields {
		if who, ok := known[m.Manager]; ok {
			add("deployment/%s is kept by %s: it may take the agent away again", dep.Name, who)
		}
	}
	return lines
}
