//go:build linux

package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// TestInterceptTwoOwners: alice and bob intercept a port each of one workload.
// They do not get in each other's way, and the last one out takes the agent
// along.
func TestInterceptTwoOwners(t *testing.T) {
	t.Parallel()
	app := manifests.TwoPorts("io", manifests.Options{})
	deploy(t, app)
	alice, bob := newDesk(t), newDesk(t).As("bob")
	name := app.Deployment.Name
	before := stateOf(t, name, name)
	http80 := serviceURL(t, name)
	admin := strings.TrimSuffix(http80, ":80") + ":9090"
	loops := []*loop{startLoop(t, http80, "-fresh"), startLoop(t, admin, "-fresh")}
	port := serve(t, alice, http.HandlerFunc(echo))
	other := serve(t, bob, http.HandlerFunc(echo))

	timed(t, alice, "intercept", name, "--port", port+":http")
	loops[0].wait(t, "alice's laptop", byLaptop)
	said := fails(t, bob, "intercept", name, "--port", other+":http")
	if !strings.Contains(said, "alice@") || !strings.Contains(said, "hint: ") {
		t.Errorf("bob is not told that alice has the port: %s", said)
	}
	everyReplica(t, name, 2, "alice's laptop", isLaptop)

	timed(t, bob, "intercept", name, "--port", other+":admin")
	loops[1].wait(t, "bob's laptop", byLaptop)
	loops[0].wait(t, "alice's laptop", byLaptop)

	timed(t, alice, "leave", name)
	loops[0].wait(t, "the app", byApp)
	loops[1].wait(t, "bob's laptop", byLaptop)
	if dep := getDeployment(t, name); !inject.Injected(workload.Deployments{}.View(dep)) {
		t.Error("the first to leave took the agent along")
	}
	everyReplica(t, name, 2, "the app", isPodOf(name))

	timed(t, bob, "leave", name)
	loops[1].wait(t, "the app", byApp)
	for _, l := range loops {
		l.stop(t)
	}
	if after := stateOf(t, name, name); after != before {
		t.Errorf("leave left a difference:\nbefore %s\nafter %s", before, after)
	}
	nothingLeft(t, name)
}
