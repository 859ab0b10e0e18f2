package inject

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
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
