package workload

import (
	"fmt"
	"strings"
)

// Ref names an object within a namespace.
type Ref struct {
	Kind string // singular, lower case, without group: "deployment"
	Name string
}

// String is the form that Kinds.Parse reads and kubectl prints: deployment/back.
func (r Ref) String() string { return r.Kind + "/" + r.Name }

// MarshalText writes what String returns, so that a Ref is one word in JSON; of
// the zero value it writes nothing.
func (r Ref) MarshalText() ([]byte, error) {
	if r == (Ref{}) {
		return nil, nil
	}
	return []byte(r.String()), nil
}

// UnmarshalText reads what MarshalText writes. It knows no kinds.
func (r *Ref) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*r = Ref{}
		return nil
	}
	kind, name, found := strings.Cut(string(text), "/")
	if !found || kind == "" || name == "" {
		return fmt.Errorf("%q is not KIND/NAME", text)
	}
	r.Kind, r.Name = kind, name
	return nil
}
