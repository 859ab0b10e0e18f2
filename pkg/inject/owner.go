package inject

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Owner is an intercept for whose sake an object was changed.
type Owner struct {
	User     string     `json:"user"`
	Host     string     `json:"host"`
	Session  string     `json:"session"`
	Since    time.Time  `json:"since"`
	ID       string     `json:"id,omitempty"` // of the intercept; unique
	api.Port            // the app's
	LastSeen *time.Time `json:"lastSeen,omitempty"`
}

// String is user@host.
func (o Owner) String() string { return o.User + "@" + o.Host }

func (o Owner) same(other Owner) bool { return o.Session == other.Session && o.ID == other.ID }

func (o Owner) encode() (string, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("writing the owner %s: %w", o, err)
	}
	return string(text), nil
}

// ReadOwner reads whose an object is that is ours alone, such as a Job.
func ReadOwner(obj metav1.Object) (Owner, error) {
	var o Owner
	text, ok := obj.GetAnnotations()[AnnotationOwner]
	if !ok {
		return o, fmt.Errorf("%s has no annotation %s", obj.GetName(), AnnotationOwner)
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return Owner{}, fmt.Errorf("annotation %s of %s: %w", AnnotationOwner, obj.GetName(), err)
	}
	return o, nil
}

// Owners returns the owners in obj's Record; none when there is no Record.
func Owners(obj metav1.Object) ([]Owner, error) {
	rec, err := ReadRecord(obj)
	if err != nil || rec == nil {
		return nil, err
	}
	return rec.Owners, nil
}

// AddOwner adds o to the Record of an object that is changed already, or
// replaces the owner of the same session and intercept. Only the annotation
// changes, so there is no rollout.
func AddOwner(obj workload.Object, o Owner) (workload.Object, error) {
	return withOwners(obj, func(owners []Owner) []Owner { return putOwner(owners, o) })
}

// RemoveOwner takes the owner with this session and intercept away; id ""
// stands for all intercepts of the session. It returns who is left: when nobody
// is, the caller undoes the change instead of writing the object. An object
// without a Record has nobody.
func RemoveOwner(obj workload.Object, session, id string) (workload.Object, []Owner, error) {
	rec, err := ReadRecord(obj)
	if err != nil {
		return nil, nil, err
	}
	if rec == nil {
		return obj.DeepCopyObject().(workload.Object), nil, nil
	}
	out, err := withOwners(obj, func(owners []Owner) []Owner {
		return slices.DeleteFunc(owners, func(o Owner) bool { return o.Session == session && (id == "" || o.ID == id) })
	})
	if err != nil {
		return nil, nil, err
	}
	left, err := Owners(out)
	return out, left, err
}

func withOwners(obj workload.Object, change func([]Owner) []Owner) (workload.Object, error) {
	rec, err := ReadRecord(obj)
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return nil, fmt.Errorf("%s has no undo record to add an owner to", obj.GetName())
	}
	out := obj.DeepCopyObject().(workload.Object)
	rec.Owners = change(rec.Owners)
	return out, rec.write(out)
}

func putOwner(owners []Owner, o Owner) []Owner {
	owners = slices.Clone(owners)
	if i := slices.IndexFunc(owners, o.same); i >= 0 {
		owners[i] = o
		return owners
	}
	return append(owners, o)
}
