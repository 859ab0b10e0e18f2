package inject

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
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
	Recreate       Code = "Recreate"       // the rest can be permitted
	MaxUnavailable Code = "MaxUnavailable" //
	ClaimOnce      Code = "ClaimOnce"      //
	LocalData      Code = "LocalData"      //
)

// Refusal is why a Deployment is not to be changed.
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

// Check refuses, with a *Refusal, what would not work or would hurt: the first of
// Refusals that allowRestart does not permit.
func Check(dep *appsv1.Deployment, plan Plan, facts Facts, allowRestart bool) error {
	refusals, err := Refusals(dep, plan, facts)
	if err != nil {
		return err
	}
	for i := range refusals {
		if !refusals[i].Restart || !allowRestart {
			return &refusals[i]
		}
	}
	return nil
}

// Refusals lists every reason not to carry out the plan, those that no flag
// permits first. Reasons against a rollout count only when the plan causes one.
func Refusals(dep *appsv1.Deployment, plan Plan, facts Facts) ([]Refusal, error) {
	if r := never(dep); r != nil {
		return []Refusal{*r}, nil
	}
	changed, err := Sidecar(dep, plan)
	if err != nil {
		return nil, err
	}
	all := rolloutRefusals(dep)
	all = append(all, sharedServices(dep, plan, facts)...)
	all = append(all, policyRefusals(dep, changed, plan, facts.Policies)...)
	if !equalTemplate(dep, changed) {
		all = append(all, restartRefusals(dep, facts)...)
	}
	return all, nil
}

func refuseAlways(dep *appsv1.Deployment) error {
	if r := never(dep); r != nil {
		return r
	}
	return nil
}

func never(dep *appsv1.Deployment) *Refusal {
	spec := &dep.Spec.Template.Spec
	switch {
	case dep.DeletionTimestamp != nil:
		return &Refusal{
			Code: Deleting,
			Fact: fmt.Sprintf("deployment/%s is being deleted", dep.Name),
			Mend: fmt.Sprintf("kubectl get deployment/%s -n %s shows when it is there again", dep.Name, dep.Namespace),
		}
	case spec.HostNetwork:
		return &Refusal{
			Code: HostNetwork,
			Fact: fmt.Sprintf("deployment/%s uses the node's network (hostNetwork)", dep.Name),
			Mend: "an agent there would listen on the node itself, so such pods are never intercepted",
		}
	case spec.OS != nil && spec.OS.Name == corev1.Windows:
		return &Refusal{
			Code: Windows,
			Fact: fmt.Sprintf("deployment/%s runs on Windows nodes", dep.Name),
			Mend: "the agent runs on Linux alone",
		}
	}
	return nil
}

// rolloutRefusals looks at the state of the Deployment itself.
func rolloutRefusals(dep *appsv1.Deployment) []Refusal {
	want := replicas(dep)
	status := &dep.Status
	switch {
	case dep.Spec.Paused:
		return []Refusal{{
			Code: Paused,
			Fact: fmt.Sprintf("deployment/%s is paused, so a change would not reach its pods", dep.Name),
			Mend: fmt.Sprintf("kubectl rollout resume deployment/%s -n %s", dep.Name, dep.Namespace),
		}}
	case want == 0:
		return []Refusal{{
			Code: NoReplicas,
			Fact: fmt.Sprintf("deployment/%s is scaled to 0, so it gets no traffic", dep.Name),
			Mend: fmt.Sprintf("kubectl scale deployment/%s -n %s --replicas=1", dep.Name, dep.Namespace),
		}}
	case stuck(dep) != "":
		return []Refusal{{
			Code: RolloutStuck,
			Fact: fmt.Sprintf("the last rollout of deployment/%s is stuck: %s", dep.Name, stuck(dep)),
			Mend: fmt.Sprintf("mend it first: kubectl rollout status deployment/%s -n %s", dep.Name, dep.Namespace),
		}}
	case status.ObservedGeneration < dep.Generation || status.UpdatedReplicas < want || status.Replicas > status.UpdatedReplicas || status.AvailableReplicas < want:
		return []Refusal{{
			Code: RolloutRunning,
			Fact: fmt.Sprintf("a rollout of deployment/%s is not complete (%d of %d pods updated, %d available)",
				dep.Name, min(status.UpdatedReplicas, want), want, status.AvailableReplicas),
			Mend: fmt.Sprintf("wait for it: kubectl rollout status deployment/%s -n %s", dep.Name, dep.Namespace),
		}}
	}
	return nil
}

// stuck says why the Deployment's rollout makes no progress, "" when it does.
func stuck(dep *appsv1.Deployment) string {
	for _, c := range dep.Status.Conditions {
		switch {
		case c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse,
			c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue:
			return c.Message
		}
	}
	return ""
}

func replicas(dep *appsv1.Deployment) int32 {
	if dep.Spec.Replicas == nil {
		return 1
	}
	return *dep.Spec.Replicas
}

// sharedServices refuses to switch a Service that leads to other pods too: they
// do not listen on the agent's port.
func sharedServices(dep *appsv1.Deployment, plan Plan, facts Facts) []Refusal {
	if !slices.ContainsFunc(plan.Captures, func(c Capture) bool { return c.Service }) {
		return nil
	}
	sets := map[types.UID]bool{}
	for i := range facts.ReplicaSets {
		if metav1.IsControlledBy(&facts.ReplicaSets[i], dep) {
			sets[facts.ReplicaSets[i].UID] = true
		}
	}
	var all []Refusal
	for i := range facts.Services {
		svc := &facts.Services[i]
		if !switches(svc, dep, plan) || len(svc.Spec.Selector) == 0 {
			continue
		}
		selector := labels.SelectorFromSet(svc.Spec.Selector)
		if other := otherBackend(dep, selector, sets, facts); other != "" {
			all = append(all, Refusal{
				Code: SharedService,
				Fact: fmt.Sprintf("service/%s leads to %s as well, which would get no more traffic if its targetPort were switched", svc.Name, other),
				Mend: "give the container's port a name and let the Service's targetPort use it, or narrow the Service's selector",
			})
		}
	}
	return all
}

// switches tells whether carrying out the plan switches the Service's ports.
func switches(svc *corev1.Service, dep *appsv1.Deployment, plan Plan) bool {
	spec := &Original(dep).Spec.Template.Spec
	svc = OriginalService(svc, capturesIn(dep)...)
	for _, p := range svc.Spec.Ports {
		for _, c := range plan.Captures {
			if !c.Service || !isTCP(p.Protocol) {
				continue
			}
			if targetNumber(p) == c.App || p.TargetPort.Type == intstr.String && c.Name == "" && p.TargetPort.StrVal == portName(spec, c.Container, c.App) {
				return true
			}
		}
	}
	return false
}

func otherBackend(dep *appsv1.Deployment, selector labels.Selector, sets map[types.UID]bool, facts Facts) string {
	for i := range facts.Deployments {
		d := &facts.Deployments[i]
		if d.Name != dep.Name && selector.Matches(labels.Set(d.Spec.Template.Labels)) {
			return "deployment/" + d.Name
		}
	}
	for i := range facts.Pods {
		pod := &facts.Pods[i]
		switch {
		case pod.Status.Phase == corev1.PodSucceeded, pod.Status.Phase == corev1.PodFailed, !selector.Matches(labels.Set(pod.Labels)):
			continue
		case pod.DeletionTimestamp != nil:
			continue // one of the Deployment's own, perhaps, whose ReplicaSet went with the sidecar
		}
		owner := metav1.GetControllerOf(pod)
		if owner != nil && sets[owner.UID] {
			continue
		}
		if len(sets) == 0 && owner != nil && owner.Kind == "ReplicaSet" && strings.HasPrefix(owner.Name, dep.Name+"-") {
			continue // ReplicaSets may not be read here
		}
		return "pod/" + pod.Name
	}
	return ""
}
