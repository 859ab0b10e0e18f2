package manifests

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func template(a App) corev1.PodTemplateSpec {
	if a.StatefulSet != nil {
		return a.StatefulSet.Spec.Template
	}
	return a.Deployment.Spec.Template
}

// What Pod Security `restricted` asks of these pods.
func TestShopIsRestricted(t *testing.T) {
	for _, app := range Shop("", "") {
		pod := template(app).Spec
		name := app.Service.Name
		if s := pod.SecurityContext; !*s.RunAsNonRoot || *s.RunAsUser == 0 || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: pod security context %+v", name, s)
		}
		for _, c := range pod.Containers {
			if s := c.SecurityContext; *s.AllowPrivilegeEscalation || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("%s/%s: security context %+v", name, c.Name, s)
			}
			if c.ImagePullPolicy != corev1.PullIfNotPresent || c.Image != Image {
				t.Errorf("%s/%s: image %s, %s", name, c.Name, c.Image, c.ImagePullPolicy)
			}
		}
	}
}

// Every port that is named is there: the Service's target and the probes'.
func TestShopNamesResolve(t *testing.T) {
	for _, app := range Shop("", "") {
		c := template(app).Spec.Containers[0]
		resolve := func(p intstr.IntOrString) bool {
			return slices.ContainsFunc(c.Ports, func(cp corev1.ContainerPort) bool {
				return p.Type == intstr.Int && cp.ContainerPort == p.IntVal || p.Type == intstr.String && cp.Name == p.StrVal
			})
		}
		for _, p := range app.Service.Spec.Ports {
			if !resolve(p.TargetPort) {
				t.Errorf("%s: targetPort %s is no port of the pod", app.Service.Name, p.TargetPort.String())
			}
		}
		for _, probe := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe} {
			if probe == nil {
				t.Errorf("%s: a probe is missing", app.Service.Name)
				continue
			}
			if h := probe.HTTPGet; h != nil && !resolve(h.Port) {
				t.Errorf("%s: probe port %s is no port of the pod", app.Service.Name, h.Port.String())
			}
			if s := probe.TCPSocket; s != nil && !resolve(s.Port) {
				t.Errorf("%s: probe port %s is no port of the pod", app.Service.Name, s.Port.String())
			}
		}
		for k, v := range app.Service.Spec.Selector {
			if template(app).Labels[k] != v {
				t.Errorf("%s: selects %s=%s, the pods have %v", app.Service.Name, k, v, template(app).Labels)
			}
		}
	}
}

func TestShopHasEveryKind(t *testing.T) {
	var named, numeric, two, headless, sets, byName, byNumber int
	for _, app := range Shop("", "") {
		ports := app.Service.Spec.Ports
		if ports[0].TargetPort.Type == intstr.String {
			named++
		} else {
			numeric++
		}
		if len(ports) == 2 {
			two++
		}
		if app.Service.Spec.ClusterIP == corev1.ClusterIPNone {
			headless++
		}
		replicas := int32(0)
		if app.StatefulSet != nil {
			sets++
			replicas = *app.StatefulSet.Spec.Replicas
		} else {
			replicas = *app.Deployment.Spec.Replicas
			if u := app.Deployment.Spec.Strategy.RollingUpdate.MaxUnavailable; u.IntValue() != 0 {
				t.Errorf("%s: maxUnavailable %s", app.Service.Name, u)
			}
		}
		if replicas < 2 {
			t.Errorf("%s: %d replicas", app.Service.Name, replicas)
		}
		if h := template(app).Spec.Containers[0].ReadinessProbe.HTTPGet; h != nil && h.Port.Type == intstr.String {
			byName++
		} else if h != nil {
			byNumber++
		}
	}
	for what, n := range map[string]int{
		"named targetPort": named, "numeric targetPort": numeric, "two ports": two, "headless": headless,
		"StatefulSet": sets, "probe by name": byName, "probe by number": byNumber,
	} {
		if n == 0 {
			t.Errorf("nothing with %s", what)
		}
	}
}

func TestObjectsAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range Objects("registry.example/apps:2", "copy") {
		kind := o.GetObjectKind().GroupVersionKind()
		m, err := meta.Accessor(o)
		if err != nil {
			t.Fatal(err)
		}
		id := kind.Kind + "/" + m.GetName()
		if kind.Version == "" || m.GetNamespace() != "copy" || seen[id] {
			t.Errorf("%s: version %q, namespace %q, seen %t", id, kind.Version, m.GetNamespace(), seen[id])
		}
		seen[id] = true
	}
	if len(seen) != 2*11 {
		t.Errorf("%d objects: %v", len(seen), seen)
	}
}

func TestOptions(t *testing.T) {
	a := HTTP("x", Options{
		Namespace: "n", Image: "i:1", Replicas: -1, Version: "v2", PortName: "-", PreStop: -1, Next: "http://y",
		Probes: ProbesNone, Labels: map[string]string{"tier": "web", "app": "no"}, Args: []string{"-banner"},
		Env:    []corev1.EnvVar{{Name: "A", Value: "b"}},
		Mutate: func(p *corev1.PodTemplateSpec) { p.Spec.HostNetwork = true },
	})
	c := a.Deployment.Spec.Template.Spec.Containers[0]
	if *a.Deployment.Spec.Replicas != 0 || c.Ports[0].Name != "" || c.Lifecycle != nil || c.ReadinessProbe != nil {
		t.Errorf("deployment = %+v", a.Deployment.Spec)
	}
	if a.Service.Spec.Ports[0].TargetPort != intstr.FromInt32(AppPort) {
		t.Errorf("targetPort = %v", a.Service.Spec.Ports[0].TargetPort)
	}
	if got := a.Deployment.Spec.Template.Labels; got["tier"] != "web" || got["app"] != "x" {
		t.Errorf("labels = %v", got)
	}
	if !slices.Equal(c.Args, []string{"http", "-drain", "19s", "-banner"}) {
		t.Errorf("args = %q", c.Args)
	}
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = e.Value
	}
	if env["VERSION"] != "v2" || env["A"] != "b" || env["NEXT"] != "http://y" {
		t.Errorf("env = %v", env)
	}
	if !a.Deployment.Spec.Template.Spec.HostNetwork {
		t.Error("Mutate was not called")
	}
	if none := HTTP("x", Options{NoService: true}); none.Service != nil || len(none.Objects()) != 1 {
		t.Errorf("NoService: %v", none.Objects())
	}
}
