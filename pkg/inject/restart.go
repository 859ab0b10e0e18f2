package inject

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// equalTemplate tells whether going from a to b causes no rollout.
func equalTemplate(a, b *appsv1.Deployment) bool {
	return equality.Semantic.DeepEqual(a.Spec.Template, b.Spec.Template)
}

// Restarts tells whether going from one state of a Deployment to another replaces
// its pods.
func Restarts(from, to *appsv1.Deployment) bool { return !equalTemplate(from, to) }

// restartRefusals looks for what a rolling update would cost. It can be permitted.
func restartRefusals(dep *appsv1.Deployment, facts Facts) []Refusal {
	var all []Refusal
	refuse := func(code Code, mend, format string, args ...any) {
		all = append(all, Refusal{Code: code, Restart: true, Mend: mend, Fact: fmt.Sprintf(format, args...)})
	}
	strategy := dep.Spec.Strategy
	switch {
	case strategy.Type == appsv1.RecreateDeploymentStrategyType:
		refuse(Recreate, "", "deployment/%s has strategy Recreate: all its pods would stop before new ones start, twice (now and at leave)", dep.Name)
	case maxUnavailable(dep) >= replicas(dep):
		refuse(MaxUnavailable, "a smaller maxUnavailable avoids it",
			"the strategy of deployment/%s lets all its %d pods be unavailable at once during a rollout", dep.Name, replicas(dep))
	}
	var local []string
	for _, v := range dep.Spec.Template.Spec.Volumes {
		switch {
		case v.PersistentVolumeClaim != nil:
			if why := once(v.PersistentVolumeClaim, facts); why != "" {
				refuse(ClaimOnce, "", "deployment/%s uses persistentvolumeclaim/%s, %s: a new pod may have to wait for the old one to stop",
					dep.Name, v.PersistentVolumeClaim.ClaimName, why)
			}
		case v.EmptyDir != nil, v.Ephemeral != nil:
			local = append(local, v.Name)
		}
	}
	if len(local) > 0 {
		refuse(LocalData, "", "the pods of deployment/%s keep data in %s, which is lost when they are replaced", dep.Name, strings.Join(local, ", "))
	}
	return all
}

// maxUnavailable is how many pods a rollout may take away, resolved as the
// Deployment controller does.
func maxUnavailable(dep *appsv1.Deployment) int32 {
	quarter := intstr.FromString("25%")
	surge, unavailable := &quarter, &quarter
	if r := dep.Spec.Strategy.RollingUpdate; r != nil {
		if r.MaxSurge != nil {
			surge = r.MaxSurge
		}
		if r.MaxUnavailable != nil {
			unavailable = r.MaxUnavailable
		}
	}
	want := int(replicas(dep))
	s, err1 := intstr.GetScaledValueFromIntOrPercent(surge, want, true)
	u, err2 := intstr.GetScaledValueFromIntOrPercent(unavailable, want, false)
	if err1 != nil || err2 != nil {
		return 0
	}
	if s == 0 && u == 0 {
		u = 1
	}
	return int32(u)
}

// once says that only one node, or one pod, can have the claim at a time.
func once(ref *corev1.PersistentVolumeClaimVolumeSource, facts Facts) string {
	if ref.ReadOnly {
		return ""
	}
	i := slices.IndexFunc(facts.Claims, func(c corev1.PersistentVolumeClaim) bool { return c.Name == ref.ClaimName })
	if i < 0 {
		return "whose access modes cannot be read"
	}
	modes := facts.Claims[i].Spec.AccessModes
	if slices.Contains(modes, corev1.ReadWriteMany) || slices.Contains(modes, corev1.ReadOnlyMany) {
		return ""
	}
	if slices.Contains(modes, corev1.ReadWriteOncePod) {
		return "which one pod alone can have (ReadWriteOncePod)"
	}
	return "which one node alone can have (ReadWriteOnce)"
}
