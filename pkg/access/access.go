// Package access knows which rights each feature needs, and asks the API
// server which of them the user lacks. It changes nothing and decides nothing.
package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
)

// Feature is something a user can do with this program.
type Feature string

// The features that need rights in the cluster. An intercept needs more when it
// has to switch a Service, because the target port there is a number.
const (
	Connect           Feature = "connect"
	Intercept         Feature = "intercept" // with either capture
	InterceptPortName Feature = "intercept of a named port"
	InterceptService  Feature = "intercept of a numbered port"
)

// Right is one verb on one resource of a namespace.
type Right struct {
	Verb        string `json:"verb"`
	Group       string `json:"group,omitempty"`
	Resource    string `json:"resource"`
	Subresource string `json:"subresource,omitempty"`
}

// String is how RBAC rules write it: "create pods/portforward".
func (r Right) String() string {
	s := r.Verb + " " + r.Resource
	if r.Group != "" {
		s += "." + r.Group
	}
	if r.Subresource != "" {
		s += "/" + r.Subresource
	}
	return s
}

// PortForward is how agents are reached.
func PortForward() Right { return Right{Verb: "create", Resource: "pods", Subresource: "portforward"} }

// Exec takes the place of PortForward for users who lack that.
func Exec() Right { return Right{Verb: "create", Resource: "pods", Subresource: "exec"} }

// Needs returns the rights without which a feature does not work, nil for a
// feature it does not know. What is only asked for a better explanation, such
// as events, is not among them. The ClusterRole `edit` has them all.
func Needs(f Feature) []Right {
	reach := []Right{
		{Verb: "list", Resource: "pods"},
		{Verb: "watch", Resource: "pods"},
		PortForward(),
	}
	switch f {
	case Connect:
		return append(reach,
			Right{Verb: "create", Group: "batch", Resource: "jobs"},
			Right{Verb: "delete", Group: "batch", Resource: "jobs"},
			Right{Verb: "list", Group: "discovery.k8s.io", Resource: "endpointslices"},
			Right{Verb: "list", Resource: "services"},
		)
	case Intercept, InterceptPortName, InterceptService:
		rights := append(reach,
			Right{Verb: "get", Group: "apps", Resource: "deployments"},
			Right{Verb: "patch", Group: "apps", Resource: "deployments"},
			Right{Verb: "watch", Group: "apps", Resource: "deployments"},
			Right{Verb: "list", Group: "apps", Resource: "replicasets"},
			Right{Verb: "delete", Group: "apps", Resource: "replicasets"},
			Right{Verb: "list", Resource: "services"},
		)
		if f != InterceptPortName {
			rights = append(rights,
				Right{Verb: "get", Resource: "services"},
				Right{Verb: "patch", Resource: "services"},
			)
		}
		return rights
	}
	return nil
}

// Check asks which of the rights the user lacks in the namespace, all at once,
// and returns them in the order given. A review that is itself refused, as
// some clusters do, counts for nothing: neither as lacking nor as had.
func Check(ctx context.Context, client authorizationclient.AuthorizationV1Interface, namespace string, rights []Right) ([]Right, error) {
	lacks := make([]bool, len(rights))
	errs := make([]error, len(rights))
	var wg sync.WaitGroup
	for i, r := range rights {
		wg.Go(func() {
			review, err := client.SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{
					ResourceAttributes: &authorizationv1.ResourceAttributes{
						Namespace: namespace, Verb: r.Verb, Group: r.Group, Resource: r.Resource, Subresource: r.Subresource,
					},
				},
			}, metav1.CreateOptions{})
			if err != nil {
				errs[i] = fmt.Errorf("ask whether the user may %s: %w", r, err)
				return
			}
			lacks[i] = !review.Status.Allowed
		})
	}
	wg.Wait()
	var missing []Right
	for i, r := range rights {
		if lacks[i] {
			missing = append(missing, r)
		}
	}
	if len(missing) == 0 {
		return nil, errors.Join(errs...)
	}
	return missing, nil
}

// MissingError says which rights a feature lacks.
type MissingError struct {
	Feature   Feature
	Namespace string
	Rights    []Right
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s needs rights in namespace %s that this user does not have: %s", e.Feature, e.Namespace, e.list())
}

// Hints say what to ask for, and where else to look.
func (e *MissingError) Hints() []string {
	return []string{
		fmt.Sprintf("ask for a RoleBinding to the ClusterRole `edit` in namespace %s: it has them all", e.Namespace),
		"-n chooses another namespace",
	}
}

func (e *MissingError) list() string {
	words := make([]string, len(e.Rights))
	for i, r := range e.Rights {
		words[i] = r.String()
	}
	return strings.Join(words, ", ")
}
