package inject

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/version"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// TestSidecar compares whole objects, and shows for each that undoing it gives
// exactly what was there, also by way of the patches that go to the API server.
func TestSidecar(t *testing.T) {
	container := specOf(byName)
	container.Native = false
	root := func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(0))}
	}
	for _, tc := range []struct {
		name   string
		change func(*appsv1.Deployment)
		spec   SidecarSpec
	}{
		{name: "by-name", spec: specOf(byName)},
		{name: "by-number", spec: specOf(byNumber)},
		{name: "by-both", spec: specOf(byBoth)},
		{name: "two-ports", spec: specOf(byName, grpcPort)},
		{name: "container", spec: container},
		{name: "root-pod", spec: specOf(byNumber), change: root},
	} {
		t.Run(tc.name, func(t *testing.T) {
			orig := back(t)
			if tc.change != nil {
				tc.change(orig)
			}
			input := orig.DeepCopy()
			got := sidecar(t, orig, tc.spec)
			golden(t, "sidecar-"+tc.name+".golden.yaml", got)
			equal(t, orig, input)

			undone, leftovers := undo(t, got)
			equal(t, undone, orig)
			if len(leftovers) > 0 {
				t.Errorf("leftovers: %q", leftovers)
			}
			equal(t, patched(t, orig, orig, got), got)
			equal(t, patched(t, got, got, undone), orig)
			equal(t, sidecar(t, got, tc.spec), got)
			if !restarts(orig, got) || !Injected(view(got)) || Injected(view(undone)) {
				t.Error("Restarts or Injected is wrong")
			}
		})
	}
}

func TestSidecarIsFoundAgain(t *testing.T) {
	dep := sidecar(t, back(t), specOf(byName, grpcPort))
	agent, ok := AgentIn(&dep.Spec.Template.Spec)
	if !ok || !agent.Native || agent.ControlPort != api.DefaultControlPort || string(agent.Key) != string(agentOptions().Key) || agent.Image != agentOptions().Image {
		t.Fatalf("got %+v, %v", agent, ok)
	}
	want := []Capture{{App: 8080, Listen: 15900, Name: "http"}, {App: 9090, Listen: 15901, Name: "grpc"}}
	if len(agent.Captures) != 2 || agent.Captures[0] != want[0] || agent.Captures[1] != want[1] {
		t.Errorf("captures %+v, want %+v", agent.Captures, want)
	}
}

// TestSecondOwner shows that a colleague on the same port causes no rollout, and
// that one on another port extends the agent that is there.
func TestSecondOwner(t *testing.T) {
	orig := back(t)
	first := sidecar(t, orig, specOf(byName))
	second := specOf(byName)
	second.Agent.Key = []byte(strings.Repeat("z", api.KeyBytes))
	second.Agent.Image = "example.com/tele-agent:v2"
	second.Native = false
	second.Owner = bob(8080)
	both := sidecar(t, first, second)
	if restarts(first, both) {
		t.Error("a second owner restarts the pods")
	}
	owners, err := Owners(both)
	if err != nil || len(owners) != 2 || owners[0] != alice(8080) || owners[1] != bob(8080) {
		t.Errorf("owners %v, %v", owners, err)
	}

	second.Captures, second.Owner = []Capture{grpcPort}, bob(9090)
	extended := sidecar(t, first, second)
	direct := specOf(byName, grpcPort)
	want := sidecar(t, orig, direct)
	equal(t, extended.Spec, want.Spec)
	undone, leftovers := undo(t, extended)
	equal(t, undone, orig)
	if len(leftovers) > 0 {
		t.Errorf("leftovers: %q", leftovers)
	}
}

// TestSidecarWidens shows that a Service by number can join one by name.
func TestSidecarWidens(t *testing.T) {
	orig := back(t)
	first := sidecar(t, orig, specOf(byName))
	second := specOf(byNumber)
	second.Owner = bob(8080)
	got := sidecar(t, first, second)
	if restarts(first, got) {
		t.Error("capturing another Service of the port restarts the pods")
	}
	rec, err := ReadRecord(got)
	if err != nil || len(rec.Captures) != 1 || rec.Captures[0] != (Capture{Container: "app", App: 8080, Listen: 15900, Name: "http", Service: true}) {
		t.Fatalf("record %+v, %v", rec, err)
	}
}

// TestSidecarRepairs shows that taking a port again takes the name again after
// somebody applied the original manifest.
func TestSidecarRepairs(t *testing.T) {
	orig := back(t)
	first := sidecar(t, orig, specOf(byName))
	live := apply(t, first, orig, orig)
	if got := portName(&live.Spec.Template.Spec, "app", tcp(8080)); got != "http" {
		t.Fatalf("after apply the port is called %q", got)
	}
	if before, now := LostName(view(first), tcp(8080)), LostName(view(live), tcp(8080)); before != "" || now != "http" {
		t.Errorf("lost name %q before the apply, %q after", before, now)
	}
	equal(t, sidecar(t, live, specOf(byName)), first)
}

func TestSidecarKeepsPlace(t *testing.T) {
	first := sidecar(t, back(t), specOf(byName))
	first.Spec.Template.Spec.InitContainers = append(first.Spec.Template.Spec.InitContainers, corev1.Container{Name: "late", Image: "x"})
	second := specOf(byName)
	second.Owner = bob(8080)
	if restarts(first, sidecar(t, first, second)) {
		t.Error("the agent moved")
	}
}

func TestSidecarAfterReplace(t *testing.T) {
	orig := back(t)
	first := sidecar(t, orig, specOf(byName))
	live := orig.DeepCopy() // somebody put the old template back, the record stayed
	live.Annotations = first.Annotations
	got := sidecar(t, live, specOf(byName))
	equal(t, got, first)
}

// TestSidecarLeavesOtherContainers: names mean something within their own
// container, and those of other containers stay.
func TestSidecarLeavesOtherContainers(t *testing.T) {
	dep := back(t)
	log := &dep.Spec.Template.Spec.Containers[1]
	log.Ports = append(log.Ports, corev1.ContainerPort{Name: "http", ContainerPort: 9999, Protocol: corev1.ProtocolUDP})
	log.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("http")}}}
	dep.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: "x", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}
	want := dep.DeepCopy()
	got := sidecar(t, dep, specOf(byName))
	equal(t, got.Spec.Template.Spec.Containers[1], want.Spec.Template.Spec.Containers[1])
	equal(t, got.Spec.Template.Spec.InitContainers[0], want.Spec.Template.Spec.InitContainers[0])
	undone, _ := undo(t, got)
	equal(t, undone, want)
}

// TestSidecarTellsNamesApart: two long names must not become one.
func TestSidecarTellsNamesApart(t *testing.T) {
	dep := back(t)
	app(dep).Ports = append(app(dep).Ports,
		corev1.ContainerPort{Name: "abcdefghijkl", ContainerPort: 1, Protocol: corev1.ProtocolTCP},
		corev1.ContainerPort{Name: "abcdefghijkm", ContainerPort: 2, Protocol: corev1.ProtocolTCP})
	got := sidecar(t, dep, specOf(Capture{Container: "app", App: 1, Name: "abcdefghijkl"}, Capture{Container: "app", App: 2, Name: "abcdefghijkm"}))
	if a, b := portName(&got.Spec.Template.Spec, "app", tcp(1)), portName(&got.Spec.Template.Spec, "app", tcp(2)); a != "abcdefghijk-app" || b != "abcdefghij-app2" {
		t.Errorf("the ports are called %s and %s", a, b)
	}
}

func TestSidecarChoosesPorts(t *testing.T) {
	dep := back(t)
	dep.Spec.Template.Spec.Containers[1].Ports = append(dep.Spec.Template.Spec.Containers[1].Ports,
		corev1.ContainerPort{ContainerPort: 15900, Protocol: corev1.ProtocolUDP},
		corev1.ContainerPort{ContainerPort: 15902})
	rec, err := ReadRecord(sidecar(t, dep, specOf(byName, grpcPort)))
	if err != nil || rec.Captures[0].Listen != 15901 || rec.Captures[1].Listen != 15903 {
		t.Fatalf("got %+v, %v", rec, err)
	}
}

// TestSidecarOfBothProtocols: a number may be a port of TCP and of UDP, which are captured, led
// to by a Service and given back each by itself.
func TestSidecarOfBothProtocols(t *testing.T) {
	dep := ready(t)
	c := &dep.Spec.Template.Spec.Containers[0]
	c.Ports = append(c.Ports, corev1.ContainerPort{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}, corev1.ContainerPort{Name: "dns-tcp", ContainerPort: 53, Protocol: corev1.ProtocolTCP})
	svc := &services(t)[0]
	svc.Spec.Ports = []corev1.ServicePort{
		{Name: "udp", Port: 53, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt32(53)},
		{Name: "tcp", Port: 53, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(53)},
	}
	udp := api.Port{Number: 53, Protocol: api.UDP}
	captures := map[api.Port]Capture{}
	for _, port := range []api.Port{udp, tcp(53)} {
		capture, err := PlanCapture(view(dep), []corev1.Service{*svc}, "app", port, ModeAuto)
		if err != nil || !capture.Service || capture.Port() != port {
			t.Fatalf("%s: %+v, %v", port, capture, err)
		}
		captures[port] = capture
	}
	owner := alice(53)
	owner.Port = udp
	spec := specOf(captures[udp])
	spec.Owner = owner
	one := sidecar(t, dep, spec)
	both := sidecar(t, one, specOf(captures[tcp(53)]))
	agent, ok := AgentIn(&both.Spec.Template.Spec)
	if !ok || len(agent.Captures) != 2 || agent.Captures[0].Port() != udp || agent.Captures[1].Port() != tcp(53) || agent.Captures[0].Listen == agent.Captures[1].Listen {
		t.Fatalf("captures %+v", agent.Captures)
	}
	_, patch, err := PatchData(one, both)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the second is patched by %s", patch)
	led := switched(t, svc, both, owner)
	if led.Spec.Ports[0].TargetPort.IntValue() != int(agent.Captures[0].Listen) || led.Spec.Ports[1].TargetPort.IntValue() != 53 {
		t.Errorf("of UDP alone the Service leads to %v", led.Spec.Ports)
	}
	led = switched(t, led, both, alice(53))
	if led.Spec.Ports[1].TargetPort.IntValue() != int(agent.Captures[1].Listen) {
		t.Errorf("of both the Service leads to %v", led.Spec.Ports)
	}
	for what, service := range map[string]*corev1.Service{"by its record": led, "without a record": func() *corev1.Service {
		lost := led.DeepCopy()
		lost.Annotations = nil
		return lost
	}()} {
		if got := OriginalService(service, agent.Captures...); !equality.Semantic.DeepEqual(got.Spec, svc.Spec) {
			t.Errorf("%s it is given back as %v", what, got.Spec.Ports)
		}
	}
	undone, leftovers := undo(t, both)
	equal(t, undone, dep)
	if len(leftovers) > 0 {
		t.Errorf("leftovers %q", leftovers)
	}

	// An agent that somebody brought with another version may not know of UDP.
	newer := specOf(captures[udp])
	newer.Agent.Image = "example.com/tele-agent:v2"
	if _, err := AddSidecar(view(sidecar(t, dep, specOf(byName))), newer); err == nil || !strings.Contains(err.Error(), "may not know ports of UDP") {
		t.Errorf("of another version: %v", err)
	}
	if _, err := AddSidecar(view(one), newer); err != nil {
		t.Errorf("that has it already: %v", err)
	}
}

func TestSidecarRefuses(t *testing.T) {
	damaged := func(d *appsv1.Deployment) {
		*d = *sidecar(t, d, specOf(byName))
		d.Annotations[AnnotationUndo] = "{"
	}
	for _, tc := range []struct {
		name   string
		change func(*appsv1.Deployment)
		spec   SidecarSpec
		err    string
	}{
		{name: "hostNetwork", change: func(d *appsv1.Deployment) { d.Spec.Template.Spec.HostNetwork = true }, spec: specOf(byName), err: "hostNetwork"},
		{name: "windows", change: func(d *appsv1.Deployment) { d.Spec.Template.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, spec: specOf(byName), err: "Windows"},
		{name: "no capture", spec: specOf(), err: "no port of deployment/back is to be captured"},
		{name: "no image", spec: SidecarSpec{Captures: []Capture{byName}}, err: "no image"},
		{name: "short key", spec: SidecarSpec{Agent: Options{Image: "x", Key: []byte{1}}, Captures: []Capture{byName}}, err: "1 bytes, not 32"},
		{name: "other name", spec: specOf(Capture{Container: "app", App: 8080, Name: "web"}), err: `is not called "web"`},
		{name: "other container", spec: specOf(Capture{Container: "log", App: 8080, Name: "http"}), err: `is not called "http"`},
		{name: "listen taken", spec: specOf(Capture{Container: "app", App: 8080, Listen: 9102}), err: "port 9102"},
		{name: "listen twice", spec: specOf(Capture{Container: "app", App: 8080, Listen: 7000}, Capture{Container: "app", App: 9090, Listen: 7000}), err: "port 7000"},
		{
			name: "name elsewhere",
			change: func(d *appsv1.Deployment) {
				d.Spec.Template.Spec.Containers[1].Ports[0].Name = "http"
			},
			spec: specOf(byName), err: "would not lead to the agent",
		},
		{
			name: "another's container",
			change: func(d *appsv1.Deployment) {
				d.Spec.Template.Spec.Containers[1].Name = api.ContainerName
			},
			spec: specOf(byName), err: "not ours (image example.com/log:1",
		},
		{name: "damaged record", change: damaged, spec: specOf(byName), err: "damaged"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dep := back(t)
			if tc.change != nil {
				tc.change(dep)
			}
			_, err := AddSidecar(view(dep), tc.spec)
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("got %v, want an error with %q", err, tc.err)
			}
		})
	}
}

func TestNativeSidecars(t *testing.T) {
	for minor, want := range map[string]bool{"31": false, "32": true, "34+": true, "29-gke": false, "": false} {
		if got := NativeSidecars(&version.Info{Major: "1", Minor: minor}); got != want {
			t.Errorf("1.%s: %v", minor, got)
		}
	}
	if NativeSidecars(nil) || !NativeSidecars(&version.Info{Major: "2"}) {
		t.Error("no version, or 2.0")
	}
}
