package inject

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

// load reads an object from testdata, strictly.
func load[T any](t testing.TB, file string) *T {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return parse[T](t, string(data))
}

func parse[T any](t testing.TB, text string) *T {
	t.Helper()
	obj := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

func back(t testing.TB) *appsv1.Deployment { return load[appsv1.Deployment](t, "back.yaml") }

// services returns the Services of testdata: back (by name), numeric.
func services(t testing.TB) []corev1.Service {
	t.Helper()
	data, err := os.ReadFile("testdata/services.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all []corev1.Service
	for text := range strings.SplitSeq(string(data), "\n---\n") {
		all = append(all, *parse[corev1.Service](t, text))
	}
	return all
}

var since = time.Date(2026, 11, 5, 9, 30, 0, 0, time.UTC)

func alice(port uint16) Owner {
	return Owner{User: "alice", Host: "laptop", Session: "s-alice", Since: since, ID: "i1", Port: port}
}

func bob(port uint16) Owner {
	return Owner{User: "bob", Host: "desk", Session: "s-bob", Since: since, ID: "i2", Port: port}
}

func agentOptions() Options {
	return Options{Image: "example.com/tele-agent:v1", Key: bytes.Repeat([]byte{0xab}, api.KeyBytes)}
}

func plan(captures ...Capture) Plan {
	p := Plan{Agent: agentOptions(), Native: true, Captures: captures}
	if len(captures) > 0 {
		p.Owner = alice(captures[0].App)
	}
	return p
}

var (
	byName   = Capture{Container: "app", App: 8080, Name: "http"}
	byNumber = Capture{Container: "app", App: 8080, Service: true}
	byBoth   = Capture{Container: "app", App: 8080, Name: "http", Service: true}
	grpcPort = Capture{Container: "app", App: 9090, Name: "grpc"}
)

func sidecar(t testing.TB, dep *appsv1.Deployment, p Plan) *appsv1.Deployment {
	t.Helper()
	out, err := Sidecar(dep, p)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func undo(t testing.TB, dep *appsv1.Deployment) (*appsv1.Deployment, []string) {
	t.Helper()
	out, leftovers, err := Undo(dep)
	if err != nil {
		t.Fatal(err)
	}
	return out, leftovers
}

// equal compares whole objects.
func equal(t testing.TB, got, want any) {
	t.Helper()
	if !equality.Semantic.DeepEqual(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", text(t, got), text(t, want))
	}
}

func text(t testing.TB, obj any) string {
	t.Helper()
	data, err := yaml.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// golden compares an object with a file of testdata.
func golden(t *testing.T, file string, obj any) {
	t.Helper()
	got := text(t, obj)
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it):\n%s", file, got)
	}
}

// patched is what the API server makes of live with the patch from old to
// changed.
func patched[T Object](t testing.TB, live, old, changed T) T {
	t.Helper()
	kind, patch, err := PatchData(old, changed)
	if err != nil {
		t.Fatal(err)
	}
	if kind != "application/strategic-merge-patch+json" {
		t.Fatalf("the patch is a %s", kind)
	}
	return merge(t, live, patch)
}

func merge[T Object](t testing.TB, live T, patch []byte) T {
	t.Helper()
	data, err := json.Marshal(live)
	if err != nil {
		t.Fatal(err)
	}
	result, err := strategicpatch.StrategicMergePatch(data, patch, live)
	if err != nil {
		t.Fatal(err)
	}
	out := live.DeepCopyObject().(T)
	switch o := any(out).(type) {
	case *appsv1.Deployment:
		*o = appsv1.Deployment{}
	case *corev1.Service:
		*o = corev1.Service{}
	}
	if err := json.Unmarshal(result, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// apply is kubectl apply: manifest was applied before, is applied again over
// live.
func apply[T Object](t testing.TB, live, before, manifest T) T {
	t.Helper()
	var docs [3][]byte
	for i, obj := range []T{before, manifest, live} {
		var err error
		if docs[i], err = json.Marshal(obj); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := strategicpatch.NewPatchMetaFromStruct(live)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch(docs[0], docs[1], docs[2], schema, true)
	if err != nil {
		t.Fatal(err)
	}
	return merge(t, live, patch)
}
