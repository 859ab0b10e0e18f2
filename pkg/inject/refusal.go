package inject

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Code is the reason of a Refusal.
type Code string

// The reasons to refuse an intercept before anything is changed.
const (
	HostNetwork    Code = "HostNetwork"
	Windows        Code = "Windows"
	Deleting       Code = "Deleting"
	Paused         Code = "Paused"
	NoReplicas     Code = "NoReplicas"
	RolloutRunning Code = "RolloutRunning"
	RolloutStuck   Code = "RolloutStuck"
	SharedService  Code = "SharedService"
	NetworkPolicy  Code = "NetworkPolicy"
	Uncapturable   Code = "Uncapturable"
	NotAdmitted    Code = "NotAdmitted"
	Recreate       Code = "Recreate"       // the rest can be permitted
	MaxUnavailable Code = "MaxUnavailable" //
	ClaimOnce      Code = "ClaimOnce"      //
	LocalData      Code = "LocalData"      //
)

// Refusal is why a workload is not to be changed.
type Refusal struct {
	Code    Code
	Fact    string // what is the case, with the object's name, and what it would cost
	Mend    string
	Restart bool // --allow-restart permits it: the cost is a restart that is noticed
}

func (r *Refusal) Error() string { return r.Fact }

// Hint says what to do about it.
func (r *Refusal) Hint() string {
	if !r.Restart {
		return r.Mend
	}
	return strings.TrimPrefix(r.Mend+"; --allow-restart accepts this", "; ")
}

// refusalOf returns as a Refusal an error that a user can mend; nil for any other.
func refusalOf(code Code, err error) *Refusal {
	if e, ok := errors.AsType[*hint.Error](err); ok {
		return &Refusal{Code: code, Fact: err.Error(), Mend: e.Mend}
	}
	return nil
}

// refusals lists every reason not to make changed of w, those that no flag
// permits first. Reasons against a rollout count only if there would be one.
func refusals(w, changed *workload.Workload, captures []Capture, facts Facts) []Refusal {
	all := rolloutRefusals(w)
	all = append(all, sharedServices(w, captures, facts)...)
	all = append(all, policyRefusals(w, changed, captures, facts.Policies)...)
	if Restarts(w, changed) {
		all = append(all, restartRefusals(w, facts)...)
	}
	return all
}

func refuseAlways(w *workload.Workload) error {
	if r := never(w); r != nil {
		return r
	}
	return nil
}

func never(w *workload.Workload) *Refusal {
	spec := &w.Template.Spec
	switch {
	case w.Object.GetDeletionTimestamp() != nil:
		return &Refusal{
			Code: Deleting,
			Fact: fmt.Sprintf("%s is being deleted", w),
			Mend: fmt.Sprintf("kubectl get %s -n %s shows when it is there again", w, w.Namespace()),
		}
	case spec.HostNetwork:
		return &Refusal{
			Code: HostNetwork,
			Fact: fmt.Sprintf("%s uses the node's network (hostNetwork)", w),
			Mend: "an agent there would listen on the node itself, so such pods are never intercepted",
		}
	case spec.OS != nil && spec.OS.Name == corev1.Windows:
		return &Refusal{
			Code: Windows,
			Fact: fmt.Sprintf("%s runs on Windows nodes", w),
			Mend: "the agent runs on Linux alone",
		}
	}
	return nil
}

// rolloutRefusals looks at the state of the workload itself.
func rolloutRefusals(w *workload.Workload) []Refusal {
	state := &w.State
	switch {
	case state.Paused:
		return []Refusal{{
			Code: Paused,
			Fact: fmt.Sprintf("%s is paused, so a change would not reach its pods", w),
			Mend: fmt.Sprintf("kubectl rollout resume %s -n %s", w, w.Namespace()),
		}}
	case state.Held != "":
		return []Refusal{{
			Code: Paused,
			Fact: fmt.Sprintf("a change would not reach all pods of %s: %s", w, state.Held),
			Mend: "a rolling update replaces them all",
		}}
	case state.Replicas == 0:
		return []Refusal{{
			Code: NoReplicas,
			Fact: fmt.Sprintf("%s is scaled to 0, so it gets no traffic", w),
			Mend: fmt.Sprintf("kubectl scale %s -n %s --replicas=1", w, w.Namespace()),
		}}
	case state.Stuck != "":
		return []Refusal{{
			Code: RolloutStuck,
			Fact: fmt.Sprintf("the last rollout of %s is stuck: %s", w, state.Stuck),
			Mend: fmt.Sprintf("mend it first: kubectl rollout status %s -n %s", w, w.Namespace()),
		}}
	case !state.Observed:
		return []Refusal{{
			Code: RolloutRunning,
			Fact: fmt.Sprintf("the newest change of %s has not been seen by its controller", w),
			Mend: fmt.Sprintf("wait for it: kubectl rollout status %s -n %s", w, w.Namespace()),
		}}
	case state.Rolling():
		return []Refusal{{
			Code: RolloutRunning,
			Fact: fmt.Sprintf("a rollout of %s is not complete (%d of %d pods updated, %d available)",
				w, min(state.Updated, state.Replicas), state.Replicas, state.Available),
			Mend: fmt.Sprintf("wait for it: kubectl rollout status %s -n %s", w, w.Namespace()),
		}}
	}
	return nil
}
