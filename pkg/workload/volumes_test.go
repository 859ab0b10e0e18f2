package workload

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestFilesOf(t *testing.T) {
	own := corev1.VolumeMount{Name: "own", MountPath: accountPath}
	spec := &corev1.PodSpec{
		SecurityContext: &corev1.PodSecurityContext{RunAsUser: new(int64(1)), RunAsGroup: new(int64(2))},
		Containers: []corev1.Container{
			{Name: "app", VolumeMounts: []corev1.VolumeMount{
				{Name: "config", MountPath: "/etc/app"}, {Name: "logs", MountPath: "/logs", SubPathExpr: "$(POD)"},
			}, VolumeDevices: []corev1.VolumeDevice{{Name: "disk", DevicePath: "/dev/xvda"}}},
			{Name: "own", VolumeMounts: []corev1.VolumeMount{own}, SecurityContext: &corev1.SecurityContext{RunAsGroup: new(int64(3))}},
		},
	}
	app := FilesOf(spec, "app")
	if len(app.Mounts) != 1 || app.Mounts[0].Name != "config" || app.Account != accountPath || *app.User != 1 || *app.Group != 2 {
		t.Errorf("app has %+v", app)
	}
	if said := strings.Join(app.Missing, "; "); !strings.Contains(said, "/logs (its path in volume logs") || !strings.Contains(said, "/dev/xvda (a block device)") {
		t.Errorf("missing: %s", said)
	}
	if f := FilesOf(spec, "own"); len(f.Mounts) != 1 || f.Account != "" || *f.User != 1 || *f.Group != 3 {
		t.Errorf("own has %+v", f)
	}
	spec.AutomountServiceAccountToken = new(false)
	if f := FilesOf(spec, "app"); f.Account != "" {
		t.Errorf("without a token: %+v", f)
	}
}

func TestMountPaths(t *testing.T) {
	spec := &corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}
	for _, p := range []string{"/data/sub", "/etc/app/", "/data-x", "/data", "/data/sub/deep", "/data"} {
		spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts, corev1.VolumeMount{MountPath: p})
	}
	if got := MountPaths(spec, "app"); !slices.Equal(got, []string{"/data", "/data-x", "/etc/app"}) {
		t.Errorf("got %q", got)
	}
	if got := MountPaths(spec, "other"); got != nil {
		t.Errorf("of another container %q", got)
	}
}
