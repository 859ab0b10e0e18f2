package inject

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// TestSidecar compares whole objects, and shows for each that undoing it gives
// exactly what was there, also by way of the patches that go to the API server.
func TestSidecar(t *testing.T) {
	container := plan(byName)
	container.Native = false
	root := func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(0))}
	}
	for _, tc := range []struct {
		name   string
		change func(*appsv1.Deployment)
		plan   Plan
	}{
		{name: "by-name", plan: plan(byName)},
		{name: "by-number", plan: plan(byNumber)},
		{name: "by-both", plan: plan(byBoth)},
		{name: "two-ports", plan: plan(byName, grpcPort)},
		{name: "container", plan: container},
		{name: "root-pod", plan: plan(byNumber), change: root},
	} {
		t.Run(tc.name, func(t *testing.T) {
			orig := back(t)
			if tc.change != nil {
				tc.change(orig)
			}
			input := orig.DeepCopy()
			got := sidecar(t, orig, tc.plan)
			golden(t, "sidecar-"+tc.name+".golden.yaml", got)
			equal(t, orig, input)

			undone, leftovers := undo(t, got)
			equal(t, undone, orig)
			if len(leftovers) > 0 {
				t.Errorf("leftovers: %q", leftovers)
			}
			equal(t, patched(t, orig, orig, got), got)
			equal(t, patched(t, got, got, undone), orig)
			equal(t, sidecar(t, got, tc.plan), got)
			if !Restarts(orig, got) || !Injected(got) || Injected(undone) {
				t.Error("Restarts or Injected is wrong")
			}
		})
	}
}

func TestSidecarIsFoundAgain(t *testing.T) {
	dep := sidecar(t, back(t), plan(byName, grpcPort))
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
	first := sidecar(t, orig, plan(byName))
	second := plan(byName)
	second.Agent.Key = []byte(strings.Repeat("z", api.KeyBytes))
	second.Agent.Image = "example.com/tele-agent:v2"
	second.Native = false
	second.Owner = bob(8080)
	both := sidecar(t, first, second)
	if Restarts(first, both) {
		t.Error("a second owner restarts the pods")
	}
	owners, err := Owners(both)
	if err != nil || len(owners) != 2 || owners[0] != alice(8080) || owners[1] != bob(8080) {
		t.Errorf("owners %v, %v", owners, err)
	}

	second.Captures, second.Owner = []Capture{grpcPort}, bob(9090)
	extended := sidecar(t, first, second)
	direct := plan(byName, grpcPort)
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
	first := sidecar(t, orig, plan(byName))
	second := plan(byNumber)
	second.Owner = bob(8080)
	got := sidecar(t, first, second)
	if Restarts(first, got) {
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
	first := sidecar(t, orig, plan(byName))
	live := apply(t, first, orig, orig)
	if got := portName(&live.Spec.Template.Spec, "app", 8080); got != "http" {
		t.Fatalf("after apply the port is called %q", got)
	}
	if before, now := LostName(first, 8080), LostName(live, 8080); before != "" || now != "http" {
		t.Errorf("lost name %q before the apply, %q after", before, now)
	}
	equal(t, sidecar(t, live, plan(byName)), first)
}

func TestSidecarKeepsPlace(t *testing.T) {
	first := sidecar(t, back(t), plan(byName))
	first.Spec.Template.Spec.InitContainers = append(first.Spec.Template.Spec.InitContainers, corev1.Container{Name: "late", Image: "x"})
	second := plan(byName)
	second.Owner = bob(8080)
	if Restarts(first, sidecar(t, first, second)) {
		t.Error("the agent moved")
	}
}

func TestSidecarAfterReplace(t *testing.T) {
	orig := back(t)
	first := sidecar(t, orig, plan(byName))
	live := orig.DeepCopy() // somebody put the old template back, the record stayed
	live.Annotations = first.Annotations
	got := sidecar(t, live, plan(byName))
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
	got := sidecar(t, dep, plan(byName))
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
	got := sidecar(t, dep, plan(Capture{Container: "app", App: 1, Name: "abcdefghijkl"}, Capture{Container: "app", App: 2, Name: "abcdefghijkm"}))
	if a, b := portName(&got.Spec.Template.Spec, "app", 1), portName(&got.Spec.Template.Spec, "app", 2); a != "abcdefghijk-app" || b != "abcdefghij-app2" {
		t.Errorf("the ports are called %s and %s", a, b)
	}
}

func TestSidecarChoosesPorts(t *testing.T) {
	dep := back(t)
	dep.Spec.Template.Spec.Containers[1].Ports = append(dep.Spec.Template.Spec.Containers[1].Ports,
		corev1.ContainerPort{ContainerPort: 15900, Protocol: corev1.ProtocolUDP},
		corev1.ContainerPort{ContainerPort: 15902})
	rec, err := ReadRecord(sidecar(t, dep, plan(byName, grpcPort)))
	if err != nil || rec.Captures[0].Listen != 15901 || rec.Captures[1].Listen != 15903 {
		t.Fatalf("got %+v, %v", rec, err)
	}
}

func TestAppPortName(t *testing.T) {
	for _, tc := range []struct{ name, want, second string }{
		{"http", "http-app", "http-app2"},
		{"a", "a-app", "a-app2"},
		{"abcdefghijklmno", "abcdefghijk-app", "abcdefghij-app2"},
		{"abcdefghij-lmno", "abcdefghij-app", "abcdefghij-app2"},
		{"abcdefghi-klmno", "abcdefghi-k-app", "abcdefghi-app2"},
	} {
		taken := map[string]bool{}
		for _, want := range []string{tc.want, tc.second} {
			got := appPortName(tc.name, func(s string) bool { return taken[s] })
			if got != want {
				t.Errorf("%s: got %s, want %s", tc.name, got, want)
			}
			if !isAppPortName(tc.name, got) {
				t.Errorf("%s is not recognised as made of %s", got, tc.name)
			}
			taken[got] = true
		}
	}
	for _, got := range []string{"http", "web-app", "http-apps", "http-app-x", ""} {
		if isAppPortName("http", got) {
			t.Errorf("%q is taken for made of http", got)
		}
	}
}

func TestSidecarRefuses(t *testing.T) {
	damaged := func(d *appsv1.Deployment) {
		*d = *sidecar(t, d, plan(byName))
		d.Annotations[AnnotationUndo] = "{"
	}
	for _, tc := range []struct {
		name   string
		change func(*appsv1.Deployment)
		plan   Plan
		err    string
	}{
		{name: "hostNetwork", change: func(d *appsv1.Deployment) { d.Spec.Template.Spec.HostNetwork = true }, plan: plan(byName), err: "hostNetwork"},
		{name: "windows", change: func(d *appsv1.Deployment) { d.Spec.Template.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, plan: plan(byName), err: "Windows"},
		{name: "no capture", plan: plan(), err: "no port of deployment/back is to be captured"},
		{name: "no image", plan: Plan{Captures: []Capture{byName}}, err: "no image"},
		{name: "short key", plan: Plan{Agent: Options{Image: "x", Key: []byte{1}}, Captures: []Capture{byName}}, err: "1 bytes, not 32"},
		{name: "other name", plan: plan(Capture{Container: "app", App: 8080, Name: "web"}), err: `is not called "web"`},
		{name: "other container", plan: plan(Capture{Container: "log", App: 8080, Name: "http"}), err: `is not called "http"`},
		{name: "listen taken", plan: plan(Capture{Container: "app", App: 8080, Listen: 9102}), err: "port 9102"},
		{name: "listen twice", plan: plan(Capture{Container: "app", App: 8080, Listen: 7000}, Capture{Container: "app", App: 9090, Listen: 7000}), err: "port 7000"},
		{
			name: "name elsewhere",
			change: func(d *appsv1.Deployment) {
				d.Spec.Template.Spec.Containers[1].Ports[0].Name = "http"
			},
			plan: plan(byName), err: "would not lead to the agent",
		},
		{
			name: "another's container",
			change: func(d *appsv1.Deployment) {
				d.Spec.Template.Spec.Containers[1].Name = api.ContainerName
			},
			plan: plan(byName), err: "not ours (image example.com/log:1",
		},
		{name: "damaged record", change: damaged, plan: plan(byName), err: "damaged"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dep := back(t)
			if tc.change != nil {
				tc.change(dep)
			}
			_, err := Sidecar(dep, tc.plan)
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("got %v, want an error with %q", err, tc.err)
			}
		})
	}
}
