package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// RecordVersion is the version of the Record that this package writes. Whatever
// a Record says that an older program would not undo raises it: a program never
// touches an object whose Record is newer than it knows (ErrNewer).
const RecordVersion = 1

// ErrDamaged is wrapped by errors about a Record that cannot be read.
var ErrDamaged = errors.New("the undo record is damaged")

// ErrNewer is wrapped by errors about a Record that a newer version wrote.
var ErrNewer = errors.New("the undo record was written by a newer version")

// Record is what was done to an object, and for whom: the value of the
// annotation AnnotationUndo.
type Record struct {
	Version   int           `json:"version"`
	Workload  workload.Ref  `json:"workload"`            // of a Service: whose agent it leads to
	Container string        `json:"container,omitempty"` // of a workload: the container that was added
	Image     string        `json:"image,omitempty"`
	Captures  []Capture     `json:"captures,omitempty"`
	Changes   []FieldChange `json:"changes,omitempty"`
	Owners    []Owner       `json:"owners,omitempty"`
}

// FieldChange is one field with another value than before. It is given back only
// while it holds Ours.
type FieldChange struct {
	// Path names the field: containers[app].ports[8080/TCP].name,
	// containers[app].readinessProbe.httpGet.port, ports[80/TCP].targetPort.
	Path     string `json:"path"`
	Previous string `json:"previous"`
	Ours     string `json:"ours"`
}

// ReadRecord reads an object's Record. Without one it returns nil and no error.
func ReadRecord(obj metav1.Object) (*Record, error) {
	text, ok := obj.GetAnnotations()[AnnotationUndo]
	if !ok {
		return nil, nil
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal([]byte(text), &version); err != nil {
		return nil, fmt.Errorf("%w: annotation %s of %s: %w", ErrDamaged, AnnotationUndo, obj.GetName(), err)
	}
	if version.Version > RecordVersion {
		return nil, newer(fmt.Sprintf("annotation %s of %s has version %d; this program knows %d", AnnotationUndo, obj.GetName(), version.Version, RecordVersion))
	}
	rec := &Record{}
	if err := json.Unmarshal([]byte(text), rec); err != nil {
		return nil, fmt.Errorf("%w: annotation %s of %s: %w", ErrDamaged, AnnotationUndo, obj.GetName(), err)
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&Record{}); err != nil {
		return nil, newer(fmt.Sprintf("annotation %s of %s says more than this program knows: %v", AnnotationUndo, obj.GetName(), err))
	}
	for _, c := range rec.Captures {
		if c.Protocol != api.TCP && c.Protocol != api.UDP {
			return nil, newer(fmt.Sprintf("annotation %s of %s has a capture of protocol %q; this program knows TCP and UDP", AnnotationUndo, obj.GetName(), c.Protocol))
		}
	}
	if rec.Version < 1 {
		return nil, fmt.Errorf("%w: annotation %s of %s has no version", ErrDamaged, AnnotationUndo, obj.GetName())
	}
	return rec, nil
}

func newer(fact string) error {
	return &hint.Error{Fact: fact, Mend: "upgrade the plugin: kubectl krew upgrade tele", Err: ErrNewer}
}

// write puts the Record into obj.
func (r *Record) write(obj metav1.Object) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("writing the undo record of %s: %w", obj.GetName(), err)
	}
	annotations := obj.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[AnnotationUndo] = string(text)
	obj.SetAnnotations(annotations)
	return nil
}

// removeRecord takes the Record out of obj.
func removeRecord(obj metav1.Object) {
	annotations := obj.GetAnnotations()
	if _, ok := annotations[AnnotationUndo]; !ok {
		return
	}
	delete(annotations, AnnotationUndo)
	if len(annotations) == 0 {
		annotations = nil
	}
	obj.SetAnnotations(annotations)
}
