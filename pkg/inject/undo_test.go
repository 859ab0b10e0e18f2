package inject

import (
	"errors"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

func app(d *appsv1.Deployment) *corev1.Container {
	i := slices.IndexFunc(d.Spec.Template.Spec.Containers, func(c corev1.Container) bool { return c.Name == "app" })
	return &d.Spec.Template.Spec.Containers[i]
}

// TestUndoKeepsOthers shows that what colleagues do meanwhile stays: their
// change to the original is what is left, whatever the capture.
func TestUndoKeepsOthers(t *testing.T) {
	for name, change := range map[string]func(*appsv1.Deployment){
		"image":    func(d *appsv1.Deployment) { app(d).Image = "example.com/back:2" },
		"replicas": func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(5)) },
		"env":      func(d *appsv1.Deployment) { app(d).Env = append(app(d).Env, corev1.EnvVar{Name: "NEW", Value: "1"}) },
		"restarted": func(d *appsv1.Deployment) {
			d.Spec.Template.Annotations = map[string]string{"kubectl.kubernetes.io/restartedAt": "now"}
		},
		"label": func(d *appsv1.Deployment) { d.Labels["x"] = "y"; d.Annotations["x"] = "y" },
		"container": func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers = append([]corev1.Container{{Name: "first", Image: "x"}}, d.Spec.Template.Spec.Containers...)
		},
		"init container": func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.InitContainers = append(d.Spec.Template.Spec.InitContainers, corev1.Container{Name: "setup", Image: "x"})
		},
		"another port": func(d *appsv1.Deployment) {
			app(d).Ports = append(app(d).Ports, corev1.ContainerPort{Name: "debug", ContainerPort: 6060})
		},
		"probe path":   func(d *appsv1.Deployment) { app(d).ReadinessProbe.HTTPGet.Path = "/ready" },
		"volume":       func(d *appsv1.Deployment) { d.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "tmp"}} },
		"probe gone":   func(d *appsv1.Deployment) { app(d).LivenessProbe = nil },
		"renamed back": func(d *appsv1.Deployment) { app(d).Ports[0].Name = "http" },
		"probe renamed back": func(d *appsv1.Deployment) {
			app(d).Ports[0].Name = "http"
			app(d).ReadinessProbe.HTTPGet.Port = intstr.FromString("http")
		},
	} {
		for capture, p := range map[string]SidecarSpec{"name": specOf(byName), "number": specOf(byNumber), "two": specOf(byBoth, grpcPort)} {
			t.Run(name+"/"+capture, func(t *testing.T) {
				orig := back(t)
				want := orig.DeepCopy()
				change(want)
				live := sidecar(t, orig, p)
				change(live)
				input := live.DeepCopy()
				got, leftovers := undo(t, live)
				equal(t, got, want)
				equal(t, live, input)
				equal(t, patched(t, live, live, got), want)
				if name != "probe gone" && len(leftovers) > 0 {
					t.Errorf("leftovers: %q", leftovers)
				}
			})
		}
	}
}

// TestUndoAfterApply is a colleague's kubectl apply during the intercept.
func TestUndoAfterApply(t *testing.T) {
	for name, change := range map[string]func(*appsv1.Deployment){
		"same manifest": func(*appsv1.Deployment) {},
		"new image":     func(d *appsv1.Deployment) { app(d).Image = "example.com/back:2" },
		"other port": func(d *appsv1.Deployment) {
			app(d).Ports[0].ContainerPort = 8081
			app(d).StartupProbe.HTTPGet.Port = intstr.FromInt32(8081)
		},
		"other name": func(d *appsv1.Deployment) {
			app(d).Ports[0].Name = "web"
			app(d).ReadinessProbe.HTTPGet.Port = intstr.FromString("web")
			app(d).LivenessProbe.TCPSocket.Port = intstr.FromString("web")
			app(d).Lifecycle.PreStop.HTTPGet.Port = intstr.FromString("web")
		},
		"container renamed": func(d *appsv1.Deployment) { app(d).Name = "main" },
		"port gone": func(d *appsv1.Deployment) {
			app(d).Ports = app(d).Ports[1:]
			app(d).ReadinessProbe, app(d).LivenessProbe, app(d).Lifecycle.PreStop = nil, nil, nil
		},
		"init container added": func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: "x"}}
		},
	} {
		for capture, p := range map[string]SidecarSpec{"name": specOf(byName), "number": specOf(byNumber), "both": specOf(byBoth, grpcPort)} {
			t.Run(name+"/"+capture, func(t *testing.T) {
				orig := back(t)
				manifest := orig.DeepCopy()
				change(manifest)
				live := apply(t, sidecar(t, orig, p), orig, manifest)
				got, leftovers := undo(t, live)
				equal(t, got, manifest)
				t.Logf("leftovers: %q", leftovers)
			})
		}
	}
}

// TestUndoLeavesWhatWouldBreak: a probe gets its name back only if there is a
// port of that name.
func TestUndoLeavesWhatWouldBreak(t *testing.T) {
	for _, tc := range []struct {
		name      string
		change    func(*appsv1.Deployment)
		want      func(*appsv1.Deployment)
		leftovers []string
	}{
		{
			name:   "port renamed",
			change: func(d *appsv1.Deployment) { app(d).Ports[0].Name = "web" },
			want: func(d *appsv1.Deployment) {
				app(d).Ports[0].Name = "web"
				numbers(d)
			},
			leftovers: []string{
				`ports[8080/TCP].name was changed by others to "web" and is left so (it was "http"`,
				`readinessProbe.httpGet.port stays "8080" (it was "http" before): container app has no port 8080 of that name`,
				`livenessProbe.tcpSocket.port stays "8080"`,
				`lifecycle.preStop.httpGet.port stays "8080"`,
			},
		},
		{
			name:   "port renumbered",
			change: func(d *appsv1.Deployment) { app(d).Ports[0].ContainerPort = 8081 },
			want: func(d *appsv1.Deployment) {
				app(d).Ports[0].ContainerPort = 8081
				numbers(d)
			},
			leftovers: []string{`readinessProbe`, `livenessProbe`, `preStop`},
		},
		{
			name: "name taken",
			change: func(d *appsv1.Deployment) {
				app(d).Ports = append(app(d).Ports, corev1.ContainerPort{Name: "http", ContainerPort: 8088})
			},
			want: func(d *appsv1.Deployment) {
				app(d).Ports[0].Name = "http-app"
				app(d).Ports = append(app(d).Ports, corev1.ContainerPort{Name: "http", ContainerPort: 8088})
				numbers(d)
			},
			leftovers: []string{`stays "http-app" (it was "http" before): port 8088 of container app has that name now`, `readinessProbe`, `livenessProbe`, `preStop`},
		},
		{
			name:      "probe changed",
			change:    func(d *appsv1.Deployment) { app(d).ReadinessProbe.HTTPGet.Port = intstr.FromString("grpc") },
			want:      func(d *appsv1.Deployment) { app(d).ReadinessProbe.HTTPGet.Port = intstr.FromString("grpc") },
			leftovers: []string{`readinessProbe.httpGet.port was changed by others to "grpc"`},
		},
		{
			name:      "probe gone",
			change:    func(d *appsv1.Deployment) { app(d).ReadinessProbe = nil },
			want:      func(d *appsv1.Deployment) { app(d).ReadinessProbe = nil },
			leftovers: []string{`readinessProbe.httpGet.port is there no more`},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := back(t)
			tc.want(want)
			live := sidecar(t, back(t), specOf(byName))
			tc.change(live)
			got, leftovers := undo(t, live)
			equal(t, got, want)
			if len(leftovers) != len(tc.leftovers) {
				t.Fatalf("leftovers %q, want %q", leftovers, tc.leftovers)
			}
			for i := range leftovers {
				if !strings.Contains(leftovers[i], tc.leftovers[i]) {
					t.Errorf("leftover %q, want one with %q", leftovers[i], tc.leftovers[i])
				}
			}
		})
	}
}

// numbers is what the probes and hooks of the port http hold while it is ours.
func numbers(d *appsv1.Deployment) {
	app(d).ReadinessProbe.HTTPGet.Port = intstr.FromInt32(8080)
	app(d).LivenessProbe.TCPSocket.Port = intstr.FromInt32(8080)
	app(d).Lifecycle.PreStop.HTTPGet.Port = intstr.FromInt32(8080)
}

// TestUndoWithoutRecord: what is recognisably ours goes, and the app gets its
// port name back, or Services would lead nowhere.
func TestUndoWithoutRecord(t *testing.T) {
	for name, damage := range map[string]func(*appsv1.Deployment){
		"lost":    func(d *appsv1.Deployment) { delete(d.Annotations, AnnotationUndo) },
		"empty":   func(d *appsv1.Deployment) { d.Annotations[AnnotationUndo] = "" },
		"cut":     func(d *appsv1.Deployment) { d.Annotations[AnnotationUndo] = d.Annotations[AnnotationUndo][:40] },
		"null":    func(d *appsv1.Deployment) { d.Annotations[AnnotationUndo] = "null" },
		"no type": func(d *appsv1.Deployment) { d.Annotations[AnnotationUndo] = `{"version":1,"changes":"none"}` },
	} {
		t.Run(name, func(t *testing.T) {
			live := sidecar(t, back(t), specOf(byName, grpcPort))
			damage(live)
			want := back(t)
			numbers(want)
			app(want).Lifecycle.PostStart.TCPSocket.Port = intstr.FromInt32(9090)
			got, leftovers := undo(t, live)
			equal(t, got, want)
			if len(leftovers) != 1 || !strings.Contains(leftovers[0], "could not be used") {
				t.Errorf("leftovers: %q", leftovers)
			}
		})
	}
}

func TestUndoOfNewerRecord(t *testing.T) {
	live := sidecar(t, back(t), specOf(byName))
	live.Annotations[AnnotationUndo] = `{"version":99,"what":{"is":"this"}}`
	_, _, err := Undo(view(live))
	if !errors.Is(err, ErrNewer) {
		t.Fatalf("got %v", err)
	}
	equal(t, Original(view(live)).Object, live)
}

func TestUndoOfNothing(t *testing.T) {
	got, leftovers := undo(t, back(t))
	equal(t, got, back(t))
	if len(leftovers) > 0 {
		t.Errorf("leftovers: %q", leftovers)
	}
}

// TestUndoLeavesNamesakes: a container that only has our name stays.
func TestUndoLeavesNamesakes(t *testing.T) {
	dep := back(t)
	dep.Spec.Template.Spec.Containers[1].Name = api.ContainerName
	got, _ := undo(t, dep)
	equal(t, got, dep)
}

// FuzzUndo: no annotation, however broken, keeps our container in the pod or
// makes Undo touch what is not a port's name or a probe's port.
func FuzzUndo(f *testing.F) {
	f.Add(sidecar(f, back(f), specOf(byName)).Annotations[AnnotationUndo])
	f.Add(`{"version":1,"changes":[{"path":"containers[app].ports[9090/TCP].name","previous":"","ours":"grpc"}]}`)
	f.Add(`{"version":1}`)
	f.Add(``)
	orig := back(f)
	live := sidecar(f, orig, specOf(byName))
	f.Fuzz(func(t *testing.T, annotation string) {
		dep := live.DeepCopy()
		dep.Annotations[AnnotationUndo] = annotation
		undone, _, err := Undo(view(dep))
		if err != nil {
			if !errors.Is(err, ErrNewer) {
				t.Fatal(err)
			}
			return
		}
		got := undone.Object.(*appsv1.Deployment)
		if Injected(undone) || got.Annotations[AnnotationUndo] != "" {
			t.Fatal("something of ours is left")
		}
		want := orig.DeepCopy()
		for i, f := range podFields(&got.Spec.Template.Spec) {
			podFields(&want.Spec.Template.Spec)[i].set(f.get())
		}
		equal(t, got, want)
	})
}
