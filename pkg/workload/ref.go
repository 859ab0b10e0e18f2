package workload

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// KindDeployment is the one kind of workload that can be a target so far.
const KindDeployment = "deployment"

// Ref names a workload within a namespace.
type Ref struct {
	Kind string // singular, lower case, without group: KindDeployment
	Name string
}

// String is the form that ParseRef reads and kubectl prints.
func (r Ref) String() string { return r.Kind + "/" + r.Name }

// ParseRef reads a workload as users of kubectl write it: "back",
// "deploy/back", "deployment/back", "deployments.apps/back". A name alone is a
// Deployment.
func ParseRef(s string) (Ref, error) {
	kind, name, found := strings.Cut(s, "/")
	if !found {
		kind, name = KindDeployment, s
	}
	if err := checkKind(kind, name); err != nil {
		return Ref{}, err
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return Ref{}, &Error{
			Fact: fmt.Sprintf("%q is not the name of a workload: %s", name, problems[0]),
			Mend: "name a Deployment, as in back or deployment/back",
		}
	}
	return Ref{Kind: KindDeployment, Name: name}, nil
}

func checkKind(kind, name string) error {
	switch strings.ToLower(kind) {
	case "deploy", "deployment", "deployments",
		"deployment.apps", "deployments.apps", "deployment.v1.apps", "deployments.v1.apps":
		return nil
	case "svc", "service", "services":
		return &Error{
			Fact: fmt.Sprintf("%s/%s is a Service, which has no pods of its own", kind, name),
			Mend: "name the Deployment behind it, as in deployment/NAME; --service picks one of its Services",
		}
	}
	return &Error{
		Fact: fmt.Sprintf("workloads of kind %q cannot be intercepted", kind),
		Mend: "a Deployment can: NAME, deploy/NAME, deployment/NAME or deployments.apps/NAME",
	}
}
