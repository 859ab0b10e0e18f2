package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Restarts reports whether going from one state of a workload to another
// replaces its pods.
func Restarts(from, to *workload.Workload) bool {
	return !equality.Semantic.DeepEqual(from.Template, to.Template)
}

// restartRefusals looks for what a rolling update would cost. It can be permitted.
func restartRefusals(w *workload.Workload, facts Facts) []Refusal {
	var all []Refusal
	refuse := func(code Code, mend, format string, args ...any) {
		all = append(all, Refusal{Code: code, Restart: true, Mend: mend, Fact: fmt.Sprintf(format, args...)})
	}
	switch {
	case w.State.Recreate:
		refuse(Recreate, "", "%s has strategy Recreate: all its pods would stop before new ones start, twice (now and at leave)", w)
	case w.State.MaxUnavailable >= w.State.Replicas:
		refuse(MaxUnavailable, "a smaller maxUnavailable avoids it",
			"the strategy of %s lets all its %d pods be unavailable at once during a rollout", w, w.State.Replicas)
	}
	var local []string
	for _, v := range w.Template.Spec.Volumes {
		switch {
		case v.PersistentVolumeClaim != nil:
			if why := once(v.PersistentVolumeClaim, facts); why != "" {
				refuse(ClaimOnce, "", "%s uses persistentvolumeclaim/%s, %s: a new pod may have to wait for the old one to stop",
					w, v.PersistentVolumeClaim.ClaimName, why)
			}
		case v.EmptyDir != nil, v.Ephemeral != nil:
			local = append(local, v.Name)
		}
	}
	if len(local) > 0 {
		refuse(LocalData, "", "the pods of %s keep data in %s, which is lost when they are replaced", w, strings.Join(local, ", "))
	}
	return all
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
