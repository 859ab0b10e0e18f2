package inject

import (
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestConnectJob(t *testing.T) {
	o := JobOptions{Agent: agentOptions(), Namespace: "shop", Owner: alice(0), PullSecrets: []string{"registry"}}
	job, err := ConnectJob(o)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "job.golden.yaml", job)
	if owner, err := ReadOwner(job); err != nil || owner != o.Owner {
		t.Errorf("owner %v, %v", owner, err)
	}
	agent, ok := AgentIn(&job.Spec.Template.Spec)
	if !ok || len(agent.Captures) != 0 || string(agent.Key) != string(o.Agent.Key) {
		t.Errorf("agent %+v, %v", agent, ok)
	}
	for _, bad := range []JobOptions{{}, {Agent: agentOptions()}, {Agent: Options{Image: "x"}, Owner: alice(0)}} {
		if _, err := ConnectJob(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestJobName(t *testing.T) {
	for _, session := range []string{"s1", "Shop/Back", strings.Repeat("x", 200), "a_b", "ö", "shop-3f9c"} {
		name := JobName(session)
		if problems := validation.IsDNS1123Label(name); len(problems) > 0 || len(name) > 52 {
			t.Errorf("%q: %q: %v", session, name, problems)
		}
		if problems := validation.IsValidLabelValue(slug(session)); len(problems) > 0 {
			t.Errorf("%q: %v", session, problems)
		}
	}
	if JobName("Shop/Back") == JobName("Shop/Front") || JobName("shop-3f9c") != "kubectl-tele-shop-3f9c" {
		t.Error("names are not told apart")
	}
}

func TestDeleteJob(t *testing.T) {
	job, err := ConnectJob(JobOptions{Agent: agentOptions(), Namespace: "shop", Owner: alice(0)})
	if err != nil {
		t.Fatal(err)
	}
	client := fake.NewClientset(job)
	for range 2 {
		if err := DeleteJob(t.Context(), client, "shop", job.Name); err != nil {
			t.Fatal(err)
		}
	}
	if p := client.Actions()[0].(clienttesting.DeleteActionImpl).DeleteOptions.PropagationPolicy; p == nil || *p != "Background" {
		t.Errorf("the Job's pod would be left behind: %v", p)
	}
}

func TestAgentArgs(t *testing.T) {
	got := strings.Join(agentArgs(1234, []Capture{{Listen: 1, App: 2}, {Listen: 3, App: 4}}, 90*time.Second), " ")
	if got != "serve --control-port=1234 --capture=1:2 --capture=3:4 --idle-exit=1m30s" {
		t.Error(got)
	}
	if got := short(11 * time.Minute); got != "11m" {
		t.Error(got)
	}
	if got := short(2 * time.Hour); got != "2h0m" {
		t.Error(got)
	}
}

func TestWithCPULimit(t *testing.T) {
	base := DefaultResources()
	got := WithCPULimit(base, resource.MustParse("1"))
	if got.Limits.Cpu().String() != "1" || got.Limits.Memory().String() != "128Mi" {
		t.Errorf("got %v", got)
	}
	if _, changed := base.Limits["cpu"]; changed {
		t.Error("the input was changed")
	}
}

func TestNativeSidecars(t *testing.T) {
	for minor, want := range map[string]bool{"31": false, "32": true, "34+": true, "29-gke": false, "": false} {
		if got := NativeSidecars(&version.Info{Major: "1", Minor: minor}); got != want {
			t.Errorf("1.%s: %v", minor, got)
		}
	}
	if NativeSidecars(nil) || !NativeSidecars(&version.Info{Major: "2"}) {
		t.Error("no version, or 2.0")
	}
}

func TestOwners(t *testing.T) {
	dep := sidecar(t, back(t), plan(byName))
	both, err := AddOwner(dep, bob(8080))
	if err != nil {
		t.Fatal(err)
	}
	if Restarts(dep, both) {
		t.Error("an owner restarts the pods")
	}
	seen := bob(8080)
	seen.LastSeen = &since
	again, err := AddOwner(both, seen)
	if err != nil {
		t.Fatal(err)
	}
	if owners, err := Owners(again); err != nil || len(owners) != 2 || owners[1].LastSeen == nil {
		t.Errorf("owners %v, %v", owners, err)
	}
	second := alice(9090)
	second.ID = "i3"
	if more, err := AddOwner(again, second); err != nil {
		t.Error(err)
	} else if owners, err := Owners(more); err != nil || len(owners) != 3 {
		t.Errorf("a second intercept of a session: %v, %v", owners, err)
	}
	rest, left, err := RemoveOwner(again, "s-alice", "")
	if err != nil || len(left) != 1 || left[0].Session != "s-bob" {
		t.Fatalf("left %v, %v", left, err)
	}
	if _, left, err := RemoveOwner(rest, "s-bob", "other"); err != nil || len(left) != 1 {
		t.Errorf("another intercept's owner went: %v, %v", left, err)
	}
	if _, left, err := RemoveOwner(rest, "s-bob", "i2"); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if owners, err := Owners(dep); err != nil || len(owners) != 1 {
		t.Errorf("the input was changed: %v, %v", owners, err)
	}
	if _, err := AddOwner(back(t), bob(8080)); err == nil {
		t.Error("an owner was added to nothing")
	}
	if out, left, err := RemoveOwner(back(t), "s", ""); err != nil || len(left) > 0 || out == nil {
		t.Errorf("of nothing: %v, %v", left, err)
	}
	dep.Annotations[AnnotationUndo] = "{"
	if _, _, err := RemoveOwner(dep, "s", ""); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
}
