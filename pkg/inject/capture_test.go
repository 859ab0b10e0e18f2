package inject

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

func TestPlanCapture(t *testing.T) {
	all := services(t)
	named, number := all[:1], all[1:]
	shared := back(t)
	shared.Spec.Template.Spec.Containers[1].Ports[0].Name = "http"
	injected := sidecar(t, back(t), specOf(byBoth))
	switchedSvc := *switched(t, numeric(t), injected, alice(8080))
	forced := sidecar(t, back(t), specOf(byNumber))
	forcedSvc := *switched(t, &all[0], forced, alice(8080))
	for _, tc := range []struct {
		name     string
		dep      *appsv1.Deployment
		services []corev1.Service
		app      uint16
		mode     Mode
		want     Capture
		err      string
	}{
		{name: "named", services: named, app: 8080, want: byName},
		{name: "number", services: number, app: 8080, want: byNumber},
		{name: "both", services: all, app: 8080, want: byBoth},
		{name: "other port", services: all, app: 9090, want: grpcPort},
		{name: "forced name", services: named, app: 8080, mode: ModePortName, want: byName},
		{name: "forced service", services: all, app: 8080, mode: ModeService, want: byNumber},
		{name: "name of two containers", dep: shared, services: named, app: 8080, want: byNumber},
		{name: "injected already", dep: injected, services: []corev1.Service{named[0], switchedSvc}, app: 8080, want: byBoth},
		{name: "injected by force", dep: forced, services: []corev1.Service{forcedSvc}, app: 8080, want: byName},
		{name: "name forced on number", services: number, app: 8080, mode: ModePortName, err: "service/numeric leads to the number 8080"},
		{name: "name forced on both", services: all, app: 8080, mode: ModePortName, err: "service/numeric leads to the number 8080, which"},
		{name: "name forced on shared", dep: shared, services: named, app: 8080, mode: ModePortName, err: "another container"},
		{name: "no such mode", services: all, app: 8080, mode: "magic", err: `no capture "magic"`},
		{name: "no service", app: 8080, err: "no Service leads to port 8080 of container app of deployment/back"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dep := tc.dep
			if dep == nil {
				dep = back(t)
			}
			got, err := PlanCapture(view(dep), tc.services, "app", tcp(tc.app), tc.mode)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("got %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tc.want)
			}
		})
	}
}
