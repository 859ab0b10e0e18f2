package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// uses lists, a line each, everything in the facts that uses the name of the captured
// port, and so will lead to the agent once it has the name: Services other than
// captured ones (by name), and NetworkPolicies. services are all that select the
// pods.
func uses(w *workload.Workload, c Capture, services []corev1.Service, captured []string, policies []networkingv1.NetworkPolicy) []string {
	var lines []string
	for i := range services {
		svc := &services[i]
		if slices.Contains(captured, svc.Name) {
			continue
		}
		for _, p := range svc.Spec.Ports {
			if p.TargetPort.Type == intstr.String && p.TargetPort.StrVal == c.Name && isOf(p.Protocol, c.Protocol) {
				lines = append(lines, fmt.Sprintf("service/%s (port %d) leads to port %q and will lead to the agent too", svc.Name, p.Port, c.Name))
			}
		}
	}
	for i := range policies {
		p := &policies[i]
		if !matches(&p.Spec.PodSelector, w.Template.Labels) {
			continue
		}
		for _, r := range p.Spec.Ingress {
			for _, port := range r.Ports {
				if port.Port != nil && port.Port.Type == intstr.String && port.Port.StrVal == c.Name && (port.Protocol == nil && c.Protocol == api.TCP || port.Protocol != nil && isOf(*port.Protocol, c.Protocol)) {
					lines = append(lines, fmt.Sprintf("networkpolicy/%s names port %q and will speak of the agent's port", p.Name, c.Name))
				}
			}
		}
	}
	return slices.Compact(lines)
}

// uses is the function of that name for the facts, with PodMonitors too.
func (f Facts) uses(w *workload.Workload, c Capture, captured []string) []string {
	lines := uses(w, c, f.Selecting, captured, f.Policies)
	for _, m := range f.Monitors {
		if !matches(&m.Spec.Selector, w.Template.Labels) {
			continue
		}
		for _, e := range m.Spec.Endpoints {
			if e.Port == c.Name {
				lines = append(lines, fmt.Sprintf("podmonitor/%s scrapes port %q and will scrape through the agent", m.Metadata.Name, c.Name))
			}
		}
	}
	return slices.Compact(lines)
}

// headless warns of Services that lead clients to the pods' own addresses; selecting are all
// that there are.
func headless(services, selecting []corev1.Service) []string {
	var lines []string
	isHeadless := func(svc corev1.Service) bool { return svc.Spec.ClusterIP == corev1.ClusterIPNone }
	for i := range services {
		if isHeadless(services[i]) {
			lines = append(lines, fmt.Sprintf("service/%s is headless: clients that go to a pod's address with the app's own port number still reach the app", services[i].Name))
		}
	}
	if len(lines) > 0 && !slices.ContainsFunc(selecting, func(svc corev1.Service) bool { return !isHeadless(svc) }) {
		lines = append(lines, "no other Service leads to the pods: only clients that look up its number by DNS (SRV) come to the handler")
	}
	return lines
}

// managers lists, a line each, what seems to own the workload and may revert our
// change: Argo CD, Flux, Helm and their like.
func managers(w *workload.Workload) []string {
	labels, annotations := w.Object.GetLabels(), w.Object.GetAnnotations()
	var lines []string
	add := func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	value := func(key string) string {
		if v, ok := labels[key]; ok {
			return v
		}
		return annotations[key]
	}
	if v := value("argocd.argoproj.io/tracking-id"); v != "" {
		app, _, _ := strings.Cut(v, ":")
		add("%s is kept by Argo CD (application %s): if it heals by itself it will take the agent away again", w, app)
	} else if v := value("argocd.argoproj.io/instance"); v != "" {
		add("%s is kept by Argo CD (application %s): if it heals by itself it will take the agent away again", w, v)
	}
	if v := value("kustomize.toolkit.fluxcd.io/name"); v != "" {
		add("%s is kept by Flux (Kustomization %s): its next reconciliation may take the agent away again", w, v)
	}
	if v := value("helm.toolkit.fluxcd.io/name"); v != "" {
		add("%s is kept by Flux (HelmRelease %s): its next reconciliation may take the agent away again", w, v)
	}
	if v := value("meta.helm.sh/release-name"); v != "" {
		add("%s belongs to Helm release %s: an upgrade meanwhile may give the port its name back", w, v)
	}
	if len(lines) > 0 {
		return lines
	}
	known := map[string]string{
		"argocd-controller": "Argo CD", "argocd-application-controller": "Argo CD",
		"kustomize-controller": "Flux", "helm-controller": "Flux", "fleetagent": "Fleet",
	}
	for _, m := range w.Object.GetManagedFields() {
		if who, ok := known[m.Manager]; ok {
			add("%s is kept by %s: it may take the agent away again", w, who)
		}
	}
	return lines
}
