package inject

import (
	"fmt"
	"math/rand/v2"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// TestIdentity makes Deployments by chance and shows for each: what Sidecar did
// Undo takes back, by way of the patches too, whether the captures came at once
// or one after the other.
func TestIdentity(t *testing.T) {
	for seed := range uint64(400) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { identity(t, seed) })
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add(uint64(1 << 40))
	f.Fuzz(identity)
}

func identity(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	orig, captures := randomDeployment(r)
	if len(captures) == 0 {
		return
	}
	p := specOf(captures...)
	p.Native = r.IntN(2) == 0
	got := sidecar(t, orig, p)
	undone, leftovers := undo(t, got)
	equal(t, undone, orig)
	if len(leftovers) > 0 {
		t.Errorf("leftovers: %q", leftovers)
	}
	equal(t, viaPatch(t, orig, got), got)
	equal(t, viaPatch(t, got, undone), orig)
	equal(t, sidecar(t, got, p), got)

	stepwise := orig
	for _, c := range captures {
		one := p
		one.Captures = []Capture{c}
		stepwise = sidecar(t, stepwise, one)
	}
	equal(t, stepwise.Spec, got.Spec)
	undone, _ = undo(t, stepwise)
	equal(t, undone, orig)

	for _, c := range captures {
		if c.Name == "" {
			continue
		}
		for _, f := range podFields(&got.Spec.Template.Spec) {
			if f.container.Name == c.Container && f.get() == c.Name {
				t.Errorf("%s still uses the name %s, which is the agent's", f.path, c.Name)
			}
		}
	}
}

// viaPatch is patched, whatever the kind of the patch: a JSON merge patch gives
// the right result by construction.
func viaPatch(t *testing.T, from, to *appsv1.Deployment) *appsv1.Deployment {
	t.Helper()
	kind, patch, err := PatchData(from, to)
	if err != nil {
		t.Fatal(err)
	}
	if kind != "application/strategic-merge-patch+json" {
		return to
	}
	return merge(t, from, patch)
}

// randomDeployment makes a Deployment, and captures of some of its ports.
func randomDeployment(r *rand.Rand) (*appsv1.Deployment, []Capture) {
	names := []string{"http", "grpc", "a", "abcdefghijklmno", "abcdefghij-lmno", "abcdefghijk-app", "http-app", "web"}
	dep := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "back", Namespace: "shop"}}
	if r.IntN(2) == 0 {
		dep.Annotations = map[string]string{"x": "y"}
	}
	used := map[string]bool{}
	var captures []Capture
	number := int32(8000)
	for i := range 1 + r.IntN(3) {
		c := corev1.Container{Name: fmt.Sprintf("c%d", i), Image: "x"}
		own := []string{}
		for range r.IntN(4) {
			number += int32(1 + r.IntN(3))
			p := corev1.ContainerPort{ContainerPort: number}
			if r.IntN(3) == 0 {
				p.ContainerPort = FirstListenPort + number%8
			}
			if r.IntN(2) == 0 {
				p.Protocol = corev1.ProtocolTCP
			}
			udp := r.IntN(6) == 0
			if udp {
				p.Protocol = corev1.ProtocolUDP
			}
			name := names[r.IntN(len(names))]
			fresh := !used[name]
			if fresh && r.IntN(4) > 0 {
				p.Name, used[name] = name, true
				own = append(own, name)
			}
			if clash(dep, c, p) {
				continue
			}
			c.Ports = append(c.Ports, p)
			if r.IntN(2) == 0 {
				continue
			}
			capture := Capture{Container: c.Name, App: uint16(p.ContainerPort), Name: p.Name, Service: p.Name == "" || r.IntN(3) == 0}
			if udp {
				capture.Protocol = api.UDP
			}
			captures = append(captures, capture)
		}
		handler := func() (*corev1.HTTPGetAction, *corev1.TCPSocketAction) {
			port := intstr.FromInt32(number)
			if len(own) > 0 && r.IntN(3) > 0 {
				port = intstr.FromString(own[r.IntN(len(own))])
			}
			if r.IntN(2) == 0 {
				return &corev1.HTTPGetAction{Port: port}, nil
			}
			return nil, &corev1.TCPSocketAction{Port: port}
		}
		probe := func() *corev1.Probe {
			if r.IntN(3) == 0 {
				return nil
			}
			p := &corev1.Probe{PeriodSeconds: 3}
			p.HTTPGet, p.TCPSocket = handler()
			return p
		}
		c.ReadinessProbe, c.LivenessProbe, c.StartupProbe = probe(), probe(), probe()
		if r.IntN(2) == 0 {
			c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{}, PostStart: &corev1.LifecycleHandler{}}
			c.Lifecycle.PreStop.HTTPGet, c.Lifecycle.PreStop.TCPSocket = handler()
			c.Lifecycle.PostStart.HTTPGet, c.Lifecycle.PostStart.TCPSocket = handler()
		}
		if r.IntN(4) == 0 {
			c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
			dep.Spec.Template.Spec.InitContainers = append(dep.Spec.Template.Spec.InitContainers, c)
			continue
		}
		dep.Spec.Template.Spec.Containers = append(dep.Spec.Template.Spec.Containers, c)
	}
	if r.IntN(3) == 0 {
		dep.Spec.Template.Spec.InitContainers = append(dep.Spec.Template.Spec.InitContainers, corev1.Container{Name: "setup", Image: "x"})
	}
	return dep, captures
}

// clash reports whether the pod has a port of this number already (one protocol
// twice is invalid; two protocols are what strategic merge patches cannot do, and
// are kept now and then).
func clash(dep *appsv1.Deployment, c corev1.Container, p corev1.ContainerPort) bool {
	spec := dep.Spec.Template.Spec
	for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers, {c}} {
		for _, other := range list {
			for _, q := range other.Ports {
				if q.ContainerPort == p.ContainerPort && (workload.ProtocolOf(q.Protocol) == workload.ProtocolOf(p.Protocol) || q.ContainerPort%2 == 0) {
					return true
				}
			}
		}
	}
	return false
}
