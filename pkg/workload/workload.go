package workload

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// Workload is an object that makes pods from a template, of any kind.
type Workload struct {
	Ref
	Kind   Kind
	Object Object
	// Template is part of Object: to change it is to change the object.
	Template *corev1.PodTemplateSpec
	// Selector selects the workload's pods, and perhaps others'.
	Selector *metav1.LabelSelector
	State    State
}

// State is what a workload's spec asks for and how far its controller is.
type State struct {
	Replicas int32 // wanted
	Ready    int32

	// Of the last rollout:
	Observed  bool // the controller has seen the newest spec
	Total     int32
	Updated   int32
	Available int32
	Paused    bool
	Held      string // why a change of the template does not reach all pods; "" if it does
	Stuck     string // why it makes no progress; "" while it does

	// What the next rollout does to the pods:
	Recreate       bool  // all stop before the first new one starts
	MaxUnavailable int32 // how many may be unavailable at once
}

// Rolling reports whether the last rollout is not complete.
func (s State) Rolling() bool {
	return !s.Observed || s.Updated < s.Replicas || s.Total > s.Updated || s.Available < s.Replicas
}

// Namespace is the namespace of the workload.
func (w *Workload) Namespace() string { return w.Object.GetNamespace() }

// Containers are the names of the containers that run as long as the pods.
func (w *Workload) Containers() []string {
	var names []string
	for _, c := range Serving(&w.Template.Spec) {
		names = append(names, c.Name)
	}
	return names
}

// HasContainer returns an error, which says what there is, unless a container of that name
// runs as long as the pods.
func (w *Workload) HasContainer(name string) error {
	all := w.Containers()
	if slices.Contains(all, name) {
		return nil
	}
	return &hint.Error{
		Fact: fmt.Sprintf("%s has no container %q", w, name),
		Mend: "it is one of " + strings.Join(all, ", "),
	}
}

// Copy returns a deep copy.
func (w *Workload) Copy() *Workload {
	return w.Kind.View(w.Object.DeepCopyObject().(Object))
}
