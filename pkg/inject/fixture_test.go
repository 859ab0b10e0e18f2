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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
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

// ready is the Deployment with its rollout complete.
func ready(t testing.TB) *appsv1.Deployment {
	dep := back(t)
	dep.UID, dep.Generation = "dep", 3
	dep.Status = appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2}
	return dep
}

func ownedBy(name, kind, uid string, podLabels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Namespace: "shop", Labels: podLabels, UID: types.UID(name),
		OwnerReferences: []metav1.OwnerReference{{Kind: kind, Name: uid, UID: types.UID(uid), Controller: new(true)}},
	}
}

// facts are the namespace of the fixture: two Services, and one pod of back.
func facts(t testing.TB) Facts {
	return Facts{
		Services:  services(t),
		Workloads: []*workload.Workload{view(ready(t))},
		Pods:      []corev1.Pod{{ObjectMeta: ownedBy("back-1-a", "ReplicaSet", "back-1", map[string]string{"app": "back"})}},
		Own:       map[types.UID]bool{"back-1-a": true},
	}
}

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
	return Owner{User: "alice", Host: "laptop", Session: "s-alice", Since: since, ID: "i1", Port: tcp(port)}
}

func bob(port uint16) Owner {
	return Owner{User: "bob", Host: "desk", Session: "s-bob", Since: since, ID: "i2", Port: tcp(port)}
}

func agentOptions() Options {
	return Options{Image: "example.com/tele-agent:v1", Key: bytes.Repeat([]byte{0xab}, api.KeyBytes)}
}

func specOf(captures ...Capture) SidecarSpec {
	s := SidecarSpec{Agent: agentOptions(), Native: true, Captures: captures}
	if len(captures) > 0 {
		s.Owner = alice(captures[0].App)
	}
	return s
}

var (
	byName   = Capture{Container: "app", App: 8080, Name: "http"}
	byNumber = Capture{Container: "app", App: 8080, Service: true}
	byBoth   = Capture{Container: "app", App: 8080, Name: "http", Service: true}
	grpcPort = Capture{Container: "app", App: 9090, Name: "grpc"}
)

// view is the Deployment as a Workload.
func view(dep *appsv1.Deployment) *workload.Workload { return workload.Deployments{}.View(dep) }

func sidecar(t testing.TB, dep *appsv1.Deployment, s SidecarSpec) *appsv1.Deployment {
	t.Helper()
	out, err := AddSidecar(view(dep), s)
	if err != nil {
		t.Fatal(err)
	}
	return out.Object.(*appsv1.Deployment)
}

func undo(t testing.TB, dep *appsv1.Deployment) (*appsv1.Deployment, []string) {
	t.Helper()
	out, leftovers, err := Undo(view(dep))
	if err != nil {
		t.Fatal(err)
	}
	return out.Object.(*appsv1.Deployment), leftovers
}

// restarts is Restarts of two Deployments.
func restarts(from, to *appsv1.Deployment) bool { return Restarts(view(from), view(to)) }

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
func patched[T workload.Object](t testing.TB, live, old, changed T) T {
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

func merge[T workload.Object](t testing.TB, live T, patch []byte) T {
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
func apply[T workload.Object](t testing.TB, live, before, manifest T) T {
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

// tcp is an app's port of TCP.
func tcp(number uint16) api.Port { return api.Port{Number: number} }
