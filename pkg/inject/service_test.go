package inject

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func numeric(t testing.TB) *corev1.Service { return services(t)[1].DeepCopy() }

func switched(t testing.TB, svc *corev1.Service, dep *appsv1.Deployment, o Owner) *corev1.Service {
	t.Helper()
	out, err := SwitchService(svc, dep, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func undoService(t testing.TB, svc *corev1.Service, known ...Capture) (*corev1.Service, []string) {
	t.Helper()
	out, leftovers, err := UndoService(svc, known...)
	if err != nil {
		t.Fatal(err)
	}
	return out, leftovers
}

func TestSwitchService(t *testing.T) {
	dep := sidecar(t, back(t), plan(byNumber))
	orig := numeric(t)
	got := switched(t, orig, dep, alice(8080))
	golden(t, "service.golden.yaml", got)
	equal(t, orig, numeric(t))

	undone, leftovers := undoService(t, got)
	equal(t, undone, orig)
	if len(leftovers) > 0 {
		t.Errorf("leftovers: %q", leftovers)
	}
	equal(t, patched(t, orig, orig, got), got)
	equal(t, patched(t, got, got, undone), orig)
	equal(t, switched(t, got, dep, alice(8080)), got)

	both := switched(t, got, dep, bob(8080))
	equal(t, both.Spec, got.Spec)
	left, owners, err := RemoveOwner(both, "s-alice", "i1")
	if err != nil || len(owners) != 1 || owners[0] != bob(8080) {
		t.Fatalf("left over: %v, %v", owners, err)
	}
	equal(t, left.Spec, got.Spec)
}

// TestSwitchServiceByForce: capture service of a port that the Service knows by
// its name.
func TestSwitchServiceByForce(t *testing.T) {
	dep := sidecar(t, back(t), plan(byNumber))
	orig := services(t)[0].DeepCopy()
	got := switched(t, orig, dep, alice(8080))
	if p := got.Spec.Ports[0].TargetPort; p != intstr.FromInt32(15900) {
		t.Errorf("targetPort is %s", p.String())
	}
	if p := got.Spec.Ports[1].TargetPort; p != intstr.FromString("metrics") {
		t.Errorf("another port's targetPort became %s", p.String())
	}
	undone, _ := undoService(t, got)
	equal(t, undone, orig)
}

func TestSwitchServiceAgainAfterApply(t *testing.T) {
	dep := sidecar(t, back(t), plan(byNumber))
	first := switched(t, numeric(t), dep, alice(8080))
	live := apply(t, first, numeric(t), numeric(t))
	if live.Spec.Ports[0].TargetPort != intstr.FromInt32(8080) {
		t.Fatal("apply did not put the target port back")
	}
	undone, leftovers := undoService(t, live)
	equal(t, undone, numeric(t))
	if len(leftovers) > 0 {
		t.Errorf("leftovers: %q", leftovers)
	}
	equal(t, switched(t, live, dep, alice(8080)), first)
}

func TestUndoServiceKeepsOthers(t *testing.T) {
	dep := sidecar(t, back(t), plan(byNumber))
	for _, tc := range []struct {
		name     string
		change   func(*corev1.Service)
		want     func(*corev1.Service) // when it is not change
		leftover string
	}{
		{name: "selector", change: func(s *corev1.Service) { s.Spec.Selector["track"] = "stable" }},
		{name: "type", change: func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort; s.Spec.Ports[0].NodePort = 30080 }},
		{name: "port added", change: func(s *corev1.Service) {
			s.Spec.Ports = append([]corev1.ServicePort{{Name: "new", Port: 1, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(1)}}, s.Spec.Ports...)
		}},
		{name: "port renumbered", change: func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 }},
		{name: "annotation", change: func(s *corev1.Service) { s.Annotations["x"] = "y" }, want: func(s *corev1.Service) { s.Annotations = map[string]string{"x": "y"} }},
		{
			name: "other target", change: func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(8081) },
			leftover: `service/numeric: ports[8080/TCP].targetPort was changed by others to "8081" and is left so (it was "8080", then ours was "15900")`,
		},
		{
			name: "port gone", change: func(s *corev1.Service) { s.Spec.Ports = s.Spec.Ports[1:] },
			leftover: `ports[8080/TCP].targetPort is there no more`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := numeric(t)
			if tc.want == nil {
				tc.want = tc.change
			}
			tc.want(want)
			live := switched(t, numeric(t), dep, alice(8080))
			tc.change(live)
			got, leftovers := undoService(t, live)
			equal(t, got, want)
			if joined := strings.Join(leftovers, "\n"); tc.leftover == "" && joined != "" || !strings.Contains(joined, tc.leftover) {
				t.Errorf("leftovers: %q", leftovers)
			}
		})
	}
}

func TestUndoServiceWithoutRecord(t *testing.T) {
	dep := sidecar(t, back(t), plan(byNumber))
	agent, _ := AgentIn(&dep.Spec.Template.Spec)
	for name, damage := range map[string]func(*corev1.Service){
		"lost":   func(s *corev1.Service) { s.Annotations = nil },
		"broken": func(s *corev1.Service) { s.Annotations[AnnotationUndo] = "{" },
	} {
		t.Run(name, func(t *testing.T) {
			live := switched(t, numeric(t), dep, alice(8080))
			damage(live)
			got, leftovers := undoService(t, live, agent.Captures...)
			equal(t, got, numeric(t))
			if len(leftovers) != 1 || !strings.Contains(leftovers[0], "restored as numbers") {
				t.Errorf("leftovers: %q", leftovers)
			}

			blind, leftovers := undoService(t, live)
			equal(t, blind.Spec, live.Spec)
			if name == "broken" && (len(leftovers) != 1 || !strings.Contains(leftovers[0], "left as they are")) {
				t.Errorf("leftovers: %q", leftovers)
			}
		})
	}
	untouched, leftovers := undoService(t, numeric(t), agent.Captures...)
	equal(t, untouched, numeric(t))
	if len(leftovers) > 0 {
		t.Errorf("leftovers: %q", leftovers)
	}
}

func TestSwitchServiceRefuses(t *testing.T) {
	injected := sidecar(t, back(t), plan(byNumber))
	named := sidecar(t, back(t), plan(byName))
	other := switched(t, numeric(t), injected, alice(8080))
	renamed := injected.DeepCopy()
	renamed.Name = "front"
	for _, tc := range []struct {
		name string
		svc  *corev1.Service
		dep  *appsv1.Deployment
		port uint16
		err  string
	}{
		{"no agent", numeric(t), back(t), 8080, "deployment/back has no agent"},
		{"by name only", numeric(t), named, 8080, "does not take port 8080 from Services"},
		{"another port", numeric(t), injected, 9090, "does not take port 9090"},
		{"leads there by the name that the agent has", services(t)[0].DeepCopy(), sidecar(t, back(t), plan(byBoth)), 8080, "no port that leads to port 8080 of deployment/back by its number"},
		{"leads elsewhere", func() *corev1.Service { s := numeric(t); s.Spec.Ports = s.Spec.Ports[1:]; return s }(), injected, 8080, "no port that leads to port 8080"},
		{"of another workload", other, renamed, 8080, "leads to the agent of deployment/back, not of deployment/front"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := SwitchService(tc.svc, tc.dep, alice(tc.port))
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %v, want %q", err, tc.err)
			}
		})
	}
}

// TestSwitchOfPortsOfOneNumber: a strategic merge patch cannot tell such ports
// apart, so another kind of patch must be chosen.
func TestSwitchOfPortsOfOneNumber(t *testing.T) {
	dep := sidecar(t, back(t), plan(byNumber))
	svc := numeric(t)
	svc.ResourceVersion = "7"
	svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "quic", Port: 8080, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt32(8080)})
	got := switched(t, svc, dep, alice(8080))
	if got.Spec.Ports[2].TargetPort != intstr.FromInt32(8080) {
		t.Error("the UDP port was switched")
	}
	kind, patch, err := PatchData(svc, got)
	if err != nil || kind != "application/merge-patch+json" || !strings.Contains(string(patch), `"resourceVersion":"7"`) {
		t.Errorf("got %s %s, %v", kind, patch, err)
	}
	undone, _ := undoService(t, got)
	equal(t, undone, svc)
}

func TestPlanCapture(t *testing.T) {
	all := services(t)
	named, number := all[:1], all[1:]
	shared := back(t)
	shared.Spec.Template.Spec.Containers[1].Ports[0].Name = "http"
	injected := sidecar(t, back(t), plan(byBoth))
	switchedSvc := *switched(t, numeric(t), injected, alice(8080))
	forced := sidecar(t, back(t), plan(byNumber))
	forcedSvc := *switched(t, &all[0], forced, alice(8080))
	for _, tc := range []struct {
		name      string
		dep       *appsv1.Deployment
		services  []corev1.Service
		container string
		app       uint16
		mode      Mode
		want      Capture
		err       string
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
			got, err := PlanCapture(dep, tc.services, "app", tc.app, tc.mode)
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
