package inject

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// withVolumes gives the fixture's app volumes, one of which is of a path that the spec does
// not tell, and a user of its own.
func withVolumes(dep *appsv1.Deployment) {
	pod := &dep.Spec.Template.Spec
	for _, name := range []string{"config", "scratch"} {
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	}
	pod.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1000)), RunAsGroup: new(int64(2000))}
	c := &pod.Containers[0]
	c.SecurityContext = &corev1.SecurityContext{RunAsUser: new(int64(1001))}
	c.VolumeMounts = []corev1.VolumeMount{
		{Name: "config", MountPath: "/etc/app/"},
		{Name: "scratch", MountPath: "/etc/app/deep"},
		{Name: "config", MountPath: "/etc/one", SubPath: "one"},
		{Name: "scratch", MountPath: "/of", SubPathExpr: "$(POD_NAME)"},
	}
}

func filesOf(dep *appsv1.Deployment, container string) *workload.Files {
	return workload.FilesOf(&dep.Spec.Template.Spec, container)
}

// TestFiles: the agent has the app's volumes, at paths of its own, to read, and is its user;
// undone, nothing is left.
func TestFiles(t *testing.T) {
	orig := back(t)
	withVolumes(orig)
	spec := specOf(byName)
	spec.Files = filesOf(orig, orig.Spec.Template.Spec.Containers[0].Name)
	if missing := spec.Files.Missing; len(missing) != 1 || !strings.HasPrefix(missing[0], "/of ") {
		t.Errorf("missing %q", missing)
	}
	lines := fileWarnings(view(orig), spec.Files)
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "not among the files: /of") || !strings.Contains(lines[1], "take away or rename a volume which the agent shows: config, scratch") {
		t.Errorf("warnings %q", lines)
	}
	got := sidecar(t, orig, spec)
	golden(t, "sidecar-files.golden.yaml", got)
	if !ShowsFiles(&got.Spec.Template.Spec) || ShowsFiles(&orig.Spec.Template.Spec) {
		t.Error("ShowsFiles is wrong")
	}
	undone, leftovers := undo(t, got)
	equal(t, undone, orig)
	if len(leftovers) > 0 {
		t.Errorf("leftovers: %q", leftovers)
	}
	equal(t, sidecar(t, got, spec), got)

	// To write is to read, too, and not the other way round.
	writing := specOf(byName)
	writing.Files = filesOf(orig, orig.Spec.Template.Spec.Containers[0].Name)
	writing.Files.Write = true
	written := sidecar(t, orig, writing)
	c, _ := agentContainer(&written.Spec.Template.Spec)
	for i, m := range c.VolumeMounts {
		if m.ReadOnly || !strings.HasSuffix(volumesIn(written)[i], ":rw") {
			t.Errorf("mount %+v of %q cannot be written", m, volumesIn(written))
		}
	}
	equal(t, sidecar(t, written, spec), written)
	if _, err := AddSidecar(view(got), writing); err == nil || !strings.Contains(err.Error(), "or to read alone") {
		t.Errorf("an agent that reads is to write: %v", err)
	}
	undone, _ = undo(t, written)
	equal(t, undone, orig)

	// Files alone: nothing is captured, until somebody wants that.
	alone := specOf(byName)
	alone.Captures, alone.Files = nil, spec.Files
	shown := sidecar(t, orig, alone)
	c, _ = agentContainer(&shown.Spec.Template.Spec)
	if len(c.Ports) > 0 || !ShowsFiles(&shown.Spec.Template.Spec) || slices.ContainsFunc(c.StartupProbe.Exec.Command, awaits) {
		t.Errorf("files alone make the agent %+v", c)
	}
	undone, _ = undo(t, shown)
	equal(t, undone, orig)
	c, _ = agentContainer(&sidecar(t, shown, specOf(byName)).Spec.Template.Spec)
	if len(c.Ports) != 1 || len(volumeArgs(c)) != 4 || !slices.ContainsFunc(c.StartupProbe.Exec.Command, awaits) {
		t.Errorf("with a capture the agent is %+v", c)
	}
	alone.Files = nil
	if _, err := AddSidecar(view(orig), alone); err == nil {
		t.Error("an agent was added for nothing")
	}

	// Who wants no files leaves those of others; who wants them later gets them.
	other := specOf(byNumber)
	if args := volumesIn(sidecar(t, got, other)); len(args) != 4 {
		t.Errorf("a second intercept leaves the agent %q", args)
	}
	later := sidecar(t, sidecar(t, orig, other), spec)
	if args := volumesIn(later); len(args) != 4 || !restarts(sidecar(t, orig, other), later) {
		t.Errorf("files that are wanted later: %q", args)
	}
	undone, _ = undo(t, later)
	equal(t, undone, orig)
}

func awaits(word string) bool { return strings.HasPrefix(word, "--await-session=") }

func volumesIn(dep *appsv1.Deployment) []string {
	c, _ := agentContainer(&dep.Spec.Template.Spec)
	return volumeArgs(c)
}

// TestFilesRefused: an agent shows the files of one container, and one of an older version
// is not given what it may not know.
func TestFilesRefused(t *testing.T) {
	orig := back(t)
	withVolumes(orig)
	pod := &orig.Spec.Template.Spec
	pod.Containers = append(pod.Containers, corev1.Container{Name: "worker", Image: "example.com/worker:1"})
	spec := specOf(byName)
	spec.Files = filesOf(orig, pod.Containers[0].Name)
	have := sidecar(t, orig, spec)
	worker := specOf(byName)
	worker.Files = filesOf(orig, "worker")
	if _, err := AddSidecar(view(have), worker); err == nil || !strings.Contains(err.Error(), "shows the files of another container than worker") {
		t.Errorf("of another container: %v", err)
	}
	newer := spec
	newer.Agent.Image = "example.com/tele-agent:v2"
	if _, err := AddSidecar(view(sidecar(t, orig, specOf(byName))), newer); err == nil || !strings.Contains(err.Error(), "shows no files") {
		t.Errorf("an agent of another image: %v", err)
	}
	// A pod of root's gives the agent no root.
	pod.SecurityContext.RunAsUser, pod.Containers[0].SecurityContext = new(int64(0)), nil
	spec.Files = filesOf(orig, pod.Containers[0].Name)
	c, _ := agentContainer(&sidecar(t, orig, spec).Spec.Template.Spec)
	if user := c.SecurityContext.RunAsUser; user == nil || *user == 0 {
		t.Errorf("the agent's user is %v", user)
	}
	if workload.FilesOf(pod, "nobody") != nil || !slices.Equal(volumeArgs(c), volumesIn(have)) {
		t.Error("the files of a container that is not there, or of another user")
	}
}
