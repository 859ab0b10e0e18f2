package inject

import (
	"errors"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// check is what a plan says of the change, when a method has planned it so.
func check(t *testing.T, dep *appsv1.Deployment, s SidecarSpec, f Facts, allowRestart bool) error {
	t.Helper()
	w, plan := view(dep), &Plan{}
	if refusal := never(w); refusal != nil {
		plan.Refusals = []Refusal{*refusal}
		return plan.Refused(allowRestart)
	}
	changed, err := AddSidecar(w, s)
	if err != nil {
		t.Fatal(err)
	}
	plan.Refusals = refusals(w, changed, s.Captures, f)
	return plan.Refused(allowRestart)
}

func TestRefusals(t *testing.T) {
	claim := func(name string) corev1.Volume {
		return corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}}
	}
	pvc := func(name string, modes ...corev1.PersistentVolumeAccessMode) corev1.PersistentVolumeClaim {
		return corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeClaimSpec{AccessModes: modes}}
	}
	emptyDir := corev1.Volume{Name: "cache", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
	rolling := func(unavailable intstr.IntOrString) func(*appsv1.Deployment, *Facts) {
		return func(d *appsv1.Deployment, _ *Facts) { d.Spec.Strategy.RollingUpdate.MaxUnavailable = &unavailable }
	}
	for _, tc := range []struct {
		name    string
		change  func(*appsv1.Deployment, *Facts)
		spec    SidecarSpec
		code    Code
		restart bool
		text    string
		hint    string
	}{
		{name: "fine", spec: specOf(byBoth)},
		{name: "hostNetwork", change: func(d *appsv1.Deployment, _ *Facts) { d.Spec.Template.Spec.HostNetwork = true }, code: HostNetwork, text: "uses the node's network", hint: "never intercepted"},
		{name: "windows", change: func(d *appsv1.Deployment, _ *Facts) { d.Spec.Template.Spec.OS = &corev1.PodOS{Name: "windows"} }, code: Windows, text: "Windows"},
		{name: "deleted", change: func(d *appsv1.Deployment, _ *Facts) { d.DeletionTimestamp = &metav1.Time{Time: since} }, code: Deleting, text: "being deleted"},
		{name: "paused", change: func(d *appsv1.Deployment, _ *Facts) { d.Spec.Paused = true }, code: Paused, text: "deployment/back is paused", hint: "kubectl rollout resume deployment/back -n shop"},
		{name: "scaled to zero", change: func(d *appsv1.Deployment, _ *Facts) { d.Spec.Replicas = new(int32(0)) }, code: NoReplicas, hint: "--replicas=1"},
		{name: "not noticed yet", change: func(d *appsv1.Deployment, _ *Facts) { d.Generation = 4 }, code: RolloutRunning, hint: "kubectl rollout status"},
		{name: "rolling", change: func(d *appsv1.Deployment, _ *Facts) { d.Status.UpdatedReplicas, d.Status.Replicas = 1, 3 }, code: RolloutRunning, text: "1 of 2 pods updated, 2 available"},
		{name: "old pods left", change: func(d *appsv1.Deployment, _ *Facts) { d.Status.Replicas = 3 }, code: RolloutRunning},
		{name: "not available", change: func(d *appsv1.Deployment, _ *Facts) { d.Status.AvailableReplicas = 1 }, code: RolloutRunning, text: "1 available"},
		{
			name: "stuck", code: RolloutStuck, text: "has timed out",
			change: func(d *appsv1.Deployment, _ *Facts) {
				d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Message: "ReplicaSet back-1 has timed out progressing"}}
			},
		},
		{
			name: "not admitted", code: RolloutStuck, text: "exceeded quota",
			change: func(d *appsv1.Deployment, _ *Facts) {
				d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: "exceeded quota"}}
			},
		},
		{name: "recreate", change: func(d *appsv1.Deployment, _ *Facts) {
			d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
		}, code: Recreate, restart: true, text: "all its pods would stop before new ones start", hint: "--allow-restart accepts this"},
		{name: "100%", change: rolling(intstr.FromString("100%")), code: MaxUnavailable, restart: true, hint: "a smaller maxUnavailable avoids it; --allow-restart"},
		{name: "all by number", change: rolling(intstr.FromInt32(2)), code: MaxUnavailable, restart: true, text: "all its 2 pods be unavailable"},
		{name: "more than all", change: rolling(intstr.FromInt32(9)), code: MaxUnavailable, restart: true},
		{name: "half", change: rolling(intstr.FromString("50%"))},
		{
			name: "single pod first removed", code: MaxUnavailable, restart: true,
			change: func(d *appsv1.Deployment, _ *Facts) {
				d.Spec.Replicas = new(int32(1))
				d.Status = appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}
				d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: new(intstr.FromInt32(0)), MaxUnavailable: new(intstr.FromInt32(1))}
			},
		},
		{
			name: "single pod by default", change: func(d *appsv1.Deployment, _ *Facts) {
				d.Spec.Replicas = new(int32(1))
				d.Status = appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}
				d.Spec.Strategy = appsv1.DeploymentStrategy{}
			},
		},
		{
			name: "claim of one node", code: ClaimOnce, restart: true, text: "persistentvolumeclaim/data, which one node alone can have",
			change: func(d *appsv1.Deployment, f *Facts) {
				d.Spec.Template.Spec.Volumes = []corev1.Volume{claim("data")}
				f.Claims = []corev1.PersistentVolumeClaim{pvc("data", corev1.ReadWriteOnce)}
			},
		},
		{
			name: "claim of one pod", code: ClaimOnce, restart: true, text: "one pod alone",
			change: func(d *appsv1.Deployment, f *Facts) {
				d.Spec.Template.Spec.Volumes = []corev1.Volume{claim("data")}
				f.Claims = []corev1.PersistentVolumeClaim{pvc("data", corev1.ReadWriteOncePod)}
			},
		},
		{
			name: "claim of many", change: func(d *appsv1.Deployment, f *Facts) {
				d.Spec.Template.Spec.Volumes = []corev1.Volume{claim("data")}
				f.Claims = []corev1.PersistentVolumeClaim{pvc("data", corev1.ReadWriteOnce, corev1.ReadWriteMany)}
			},
		},
		{name: "claim not readable", change: func(d *appsv1.Deployment, _ *Facts) { d.Spec.Template.Spec.Volumes = []corev1.Volume{claim("data")} }, code: ClaimOnce, restart: true, text: "cannot be read"},
		{name: "emptyDir", change: func(d *appsv1.Deployment, _ *Facts) { d.Spec.Template.Spec.Volumes = []corev1.Volume{emptyDir} }, code: LocalData, restart: true, text: "keep data in cache, which is lost"},
		{
			name: "hard before soft", code: SharedService,
			change: func(d *appsv1.Deployment, f *Facts) {
				d.Spec.Template.Spec.Volumes = []corev1.Volume{emptyDir}
				f.Pods = append(f.Pods, corev1.Pod{ObjectMeta: ownedBy("db-0", "StatefulSet", "db", map[string]string{"app": "back"})})
			},
		},
		{
			name: "another Deployment behind the Service", code: SharedService, text: "service/numeric leads to deployment/canary as well", hint: "give the container's port a name",
			change: func(_ *appsv1.Deployment, f *Facts) {
				canary := f.Workloads[0].Object.(*appsv1.Deployment).DeepCopy()
				canary.Name = "canary"
				f.Workloads = append(f.Workloads, view(canary))
			},
		},
		{
			name: "another pod behind the Service", code: SharedService, text: "leads to pod/bare as well",
			change: func(_ *appsv1.Deployment, f *Facts) {
				f.Pods = append(f.Pods, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bare", Labels: map[string]string{"app": "back"}}})
			},
		},
		{
			name: "a finished pod behind the Service", change: func(_ *appsv1.Deployment, f *Facts) {
				f.Pods = append(f.Pods, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bare", Labels: map[string]string{"app": "back"}}, Status: corev1.PodStatus{Phase: corev1.PodSucceeded}})
				f.Pods = append(f.Pods, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "leaving", Labels: map[string]string{"app": "back"}, DeletionTimestamp: &metav1.Time{}}})
			},
		},
		{
			name: "shared, but by name", spec: specOf(byName), change: func(_ *appsv1.Deployment, f *Facts) {
				f.Pods = append(f.Pods, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bare", Labels: map[string]string{"app": "back"}}})
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dep, f := ready(t), facts(t)
			if tc.change != nil {
				tc.change(dep, &f)
			}
			if tc.spec.Captures == nil {
				tc.spec = specOf(byBoth)
			}
			err := check(t, dep, tc.spec, f, false)
			if tc.code == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			var r *Refusal
			if !errors.As(err, &r) || r.Code != tc.code || r.Restart != tc.restart {
				t.Fatalf("got %#v, want %s", err, tc.code)
			}
			if !strings.Contains(r.Error(), tc.text) || !strings.Contains(r.Hint(), tc.hint) {
				t.Errorf("got %q, hint %q; want %q, %q", r, r.Hint(), tc.text, tc.hint)
			}
			if err := check(t, dep, tc.spec, f, true); (err == nil) != tc.restart {
				t.Errorf("with allowRestart: %v", err)
			}
		})
	}
}

// TestRefusalsOfJoining: what a restart would cost does not matter to whom joins an
// agent that is there.
func TestRefusalsOfJoining(t *testing.T) {
	dep := ready(t)
	dep.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	dep = sidecar(t, dep, specOf(byName))
	p := specOf(byName)
	p.Owner = bob(8080)
	if err := check(t, dep, p, facts(t), false); err != nil {
		t.Error(err)
	}
	p.Captures = []Capture{grpcPort}
	if err := check(t, dep, p, facts(t), false); err == nil {
		t.Error("a second port restarts the pods, and was not refused")
	}
}
