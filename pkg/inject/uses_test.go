package inject

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestUses(t *testing.T) {
	all := services(t)
	got := uses(view(back(t)), Capture{Name: "http"}, all, nil, policies(t, byPortName, otherPod))
	want := []string{
		`service/back (port 80) leads to port "http" and will lead to the agent too`,
		`networkpolicy/by-name names port "http" and will speak of the agent's port`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := uses(view(back(t)), Capture{Name: "http"}, all, []string{"back"}, nil); len(got) > 0 {
		t.Errorf("the captured Service is listed: %q", got)
	}
}

func TestFactsUses(t *testing.T) {
	f := facts(t)
	f.Selecting = services(t)
	f.Policies = policies(t, byPortName)
	f.Monitors = parsePodMonitors([]byte(`{"items": [
		{"metadata": {"name": "ours"}, "spec": {"selector": {"matchLabels": {"app": "back"}}, "podMetricsEndpoints": [{"port": "grpc"}, {"port": "http"}, {"targetPort": 1}]}},
		{"metadata": {"name": "other"}, "spec": {"selector": {"matchLabels": {"app": "front"}}, "podMetricsEndpoints": [{"port": "http"}]}},
		{"metadata": {"name": "strange"}, "spec": {"selector": {}}}
	]}`))
	got := strings.Join(f.uses(view(back(t)), Capture{Name: "http"}, []string{"back"}), "\n")
	want := `networkpolicy/by-name names port "http" and will speak of the agent's port
podmonitor/ours scrapes port "http" and will scrape through the agent`
	if got != want {
		t.Errorf("got %s", got)
	}
	for _, broken := range []string{"", "[]", `{"items": 1}`} {
		if got := parsePodMonitors([]byte(broken)); len(got) > 0 {
			t.Errorf("%q: %v", broken, got)
		}
	}
}

func TestHeadless(t *testing.T) {
	all := services(t)
	all[0].Spec.ClusterIP = "None"
	got := headless(all, all)
	if len(got) != 1 || !strings.Contains(got[0], "service/back is headless") {
		t.Errorf("got %q", got)
	}
	if got := headless(all[:1], all[:1]); len(got) != 2 || !strings.Contains(got[1], "(SRV)") {
		t.Errorf("without another: %q", got)
	}
}

func TestManagers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*appsv1.Deployment)
		want   string
	}{
		{"nobody", func(*appsv1.Deployment) {}, ""},
		{"Argo CD by annotation", func(d *appsv1.Deployment) {
			d.Annotations["argocd.argoproj.io/tracking-id"] = "shop-app:apps/Deployment:shop/back"
		}, "Argo CD (application shop-app)"},
		{"Argo CD by label", func(d *appsv1.Deployment) { d.Labels["argocd.argoproj.io/instance"] = "shop-app" }, "Argo CD (application shop-app)"},
		{"Argo CD by manager", func(d *appsv1.Deployment) {
			d.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "argocd-controller"}}
		}, "kept by Argo CD"},
		{"Flux", func(d *appsv1.Deployment) { d.Labels["kustomize.toolkit.fluxcd.io/name"] = "shop" }, "Flux (Kustomization shop)"},
		{"Flux and Helm", func(d *appsv1.Deployment) { d.Labels["helm.toolkit.fluxcd.io/name"] = "shop" }, "Flux (HelmRelease shop)"},
		{"Helm", func(d *appsv1.Deployment) { d.Annotations["meta.helm.sh/release-name"] = "shop" }, "Helm release shop"},
		{"kubectl", func(d *appsv1.Deployment) { d.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}} }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dep := back(t)
			tc.change(dep)
			got := managers(view(dep))
			if tc.want == "" && len(got) == 0 {
				return
			}
			if len(got) != 1 || !strings.Contains(got[0], tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
