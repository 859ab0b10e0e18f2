//go:build linux

package e2e

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
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

// TestInterceptAtOnce: of two who ask for the same port at the same moment, one has it.
func TestInterceptAtOnce(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("ix", manifests.Options{})
	deploy(t, app)
	name := app.Deployment.Name
	before := stateOf(t, name, name)
	fresh := startLoop(t, serviceURL(t, name), "-fresh")
	alice, bob := newDesk(t), newDesk(t).As("bob")
	desks := []*rig.Desk{alice, bob}
	for range 3 {
		results := make([]rig.Result, len(desks))
		var both sync.WaitGroup
		for n, desk := range desks {
			port := serve(t, desk, http.HandlerFunc(echo))
			both.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
				defer cancel()
				var err error
				if results[n], err = rig.Run(desk.Tele(ctx, "intercept", name, "--port", port)); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		if (results[0].Code == 0) == (results[1].Code == 0) {
			t.Errorf("alice: code %d: %s\nbob: code %d: %s", results[0].Code, results[0].Stderr, results[1].Code, results[1].Stderr)
		}
		for n, desk := range desks {
			if results[n].Code == 0 {
				fresh.wait(t, "a laptop", byLaptop)
				timed(t, desk, "leave", name)
			} else {
				t.Logf("%s is told: %s", desk.User, results[n].Stderr)
			}
		}
		fresh.wait(t, "the app", byApp)
		settled(t, "deploy", name)
	}
	fresh.stop(t)
	if after := stateOf(t, name, name); after != before {
		t.Errorf("it left a difference:\nbefore %s\nafter %s", before, after)
	}
	nothingLeft(t, name)
}
