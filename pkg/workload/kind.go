package workload

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// Kind is one kind of workload that can be a target. Its methods may be called
// concurrently.
type Kind interface {
	// Resource says how users and the API call the kind.
	Resource() Resource
	// Store returns the kind's objects in one namespace.
	Store(client kubernetes.Interface, ns string) Store
	// View returns obj, which is of this kind, as a Workload. It does not copy.
	View(obj Object) *Workload
	// Controller returns what the kind's controller makes of its objects.
	Controller(client kubernetes.Interface) Controller
}

// Resource is how a kind is called.
type Resource struct {
	Group, Version string
	Title          string // as in a sentence: Deployment
	Singular       string // as in a Ref: deployment
	Plural         string // as in a URL: deployments
	Short          string // as typed by users of kubectl: deploy
	// Stalls: the controller waits for a pod of a former template to become ready before it
	// gives it the new one, for ever if it does not (kubernetes#67250).
	Stalls    bool
	Revisions string // what keeps former templates, of the same group: replicasets; "" if that is left alone
}

// calls reports whether a user who writes name means this kind.
func (r Resource) calls(name string) bool {
	name = strings.ToLower(name)
	group := "." + r.Group
	versioned := "." + r.Version + group
	return slices.Contains([]string{
		r.Short, r.Singular, r.Plural,
		r.Singular + group, r.Plural + group, r.Singular + versioned, r.Plural + versioned,
	}, name)
}

// String is the resource as rules of access control write it: deployments.apps.
func (r Resource) String() string { return r.Plural + "." + r.Group }

// Controller tells what a kind's controller makes of its objects.
type Controller interface {
	// Pods returns the pods that belong to w, in the order of their names. Pods
	// that have ended are left out; those that are being deleted are not (they
	// have a DeletionTimestamp).
	Pods(ctx context.Context, w *Workload) ([]corev1.Pod, error)
	// Progress judges the rollout of w's generation, or a later one. It returns
	// a *RolloutError for the first thing that will not mend itself.
	Progress(ctx context.Context, w *Workload, generation int64) (Progress, error)
	// Revisions returns the former pod templates of the namespace's workloads
	// that the controller keeps so that a rollout can be undone.
	Revisions(ctx context.Context, ns string) ([]Revision, error)
	// DeleteRevision deletes exactly this revision, in this state. It is no
	// error that it is gone already; if it has changed meanwhile the error is
	// the API's Conflict.
	DeleteRevision(ctx context.Context, r Revision) error
}

// Revision is a former pod template that a controller keeps.
type Revision struct {
	Ref                    // replicaset/back-5d4f
	Of              string // the kind of the workload, as in its Ref
	Namespace       string
	Owner           types.UID // of the workload
	Template        *corev1.PodTemplateSpec
	Idle            bool // it has no pods
	UID             types.UID
	ResourceVersion string
}

// Kinds are the kinds that can be targets. The first is meant by a name alone.
type Kinds []Kind

// AllKinds returns every kind that this program knows.
func AllKinds() Kinds { return Kinds{Deployments{}, StatefulSets{}, DaemonSets{}} }

// Of returns the kind that a Ref names.
func (ks Kinds) Of(ref Ref) (Kind, error) {
	for _, k := range ks {
		if k.Resource().Singular == ref.Kind {
			return k, nil
		}
	}
	return nil, fmt.Errorf("%s is of no kind that this program knows", ref)
}

// Parse reads a workload as users of kubectl write it: "back", "deploy/back",
// "deployment/back", "deployments.apps/back".
func (ks Kinds) Parse(s string) (Ref, error) {
	word, name, found := strings.Cut(s, "/")
	if !found {
		word, name = ks[0].Resource().Singular, s
	}
	i := slices.IndexFunc(ks, func(k Kind) bool { return k.Resource().calls(word) })
	if i < 0 {
		return Ref{}, ks.unknown(word, name)
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return Ref{}, &hint.Error{
			Fact: fmt.Sprintf("%q is not the name of a workload: %s", name, problems[0]),
			Mend: fmt.Sprintf("name a %s, as in back or %s/back", ks.titles(), ks[0].Resource().Singular),
		}
	}
	return Ref{Kind: ks[i].Resource().Singular, Name: name}, nil
}

func (ks Kinds) unknown(word, name string) error {
	if _, ok := ServiceNamed(word + "/" + name); ok {
		return &hint.Error{
			Fact: fmt.Sprintf("%s/%s is a Service, which has no pods of its own", word, name),
			Mend: fmt.Sprintf("name the %s behind it, as in %s/NAME", ks.titles(), ks[0].Resource().Singular),
		}
	}
	r := ks[0].Resource()
	return &hint.Error{
		Fact: fmt.Sprintf("workloads of kind %q cannot be intercepted", word),
		Mend: fmt.Sprintf("a %s can: NAME, %s/NAME, %s/NAME or %s/NAME", ks.titles(), r.Short, r.Singular, r),
	}
}

func (ks Kinds) titles() string {
	var titles []string
	for _, k := range ks {
		titles = append(titles, k.Resource().Title)
	}
	return strings.Join(titles, " or ")
}

// List returns the workloads of all kinds in the namespace, kind by kind, each
// in the API server's order. Kinds that the user may not list are left out, unless
// nothing else is found.
func (ks Kinds) List(ctx context.Context, client kubernetes.Interface, ns string) ([]*Workload, error) {
	var all []*Workload
	var refused error
	for _, k := range ks {
		objects, err := ListAll(ctx, k.Store(client, ns), metav1.ListOptions{})
		if err != nil {
			err = fmt.Errorf("listing %ss in namespace %s: %w", k.Resource().Title, ns, err)
		}
		if apierrors.IsForbidden(err) {
			refused = cmp.Or(refused, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, obj := range objects {
			all = append(all, k.View(obj))
		}
	}
	if len(all) == 0 {
		return nil, refused
	}
	return all, nil
}
