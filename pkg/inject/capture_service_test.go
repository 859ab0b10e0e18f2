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
	out, err := SwitchService(svc, view(dep), o)
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
	dep := sidecar(t, back(t), specOf(byNumber))
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
	equal(t, left.(*corev1.Service).Spec, got.Spec)
}

// TestSwitchServiceByForce: capture service of a port that the Service knows by
// its name.
func TestSwitchServiceByForce(t *testing.T) {
	dep := sidecar(t, back(t), specOf(byNumber))
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
	dep := sidecar(t, back(t), specOf(byNumber))
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
	dep := sidecar(t, back(t), specOf(byNumber))
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
	dep := sidecar(t, back(t), specOf(byNumber))
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
	injected := sidecar(t, back(t), specOf(byNumber))
	named := sidecar(t, back(t), specOf(byName))
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
		{"leads there by the name that the agent has", services(t)[0].DeepCopy(), sidecar(t, back(t), specOf(byBoth)), 8080, "no port that leads to port 8080 of deployment/back by its number"},
		{"leads elsewhere", func() *corev1.Service { s := numeric(t); s.Spec.Ports = s.Spec.Ports[1:]; return s }(), injected, 8080, "no port that leads to port 8080"},
		{"of another workload", other, renamed, 8080, "leads to the agent of deployment/back, not of deployment/front"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := SwitchService(tc.svc, view(tc.dep), alice(tc.port))
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %v, want %q", err, tc.err)
			}
		})
	}
}

// TestSwitchOfPortsOfOneNumber: a strategic merge patch cannot tell such ports
// apart, so another kind of patch must be chosen.
func TestSwitchOfPortsOfOneNumber(t *testing.T) {
	dep := sidecar(t, back(t), specOf(byNumber))
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
