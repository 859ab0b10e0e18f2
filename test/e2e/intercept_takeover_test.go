//go:build linux

package e2e

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// TestInterceptTakeOver: what a lost session holds is had by saying so alone, and
// stays with who said so when that session comes back.
func TestInterceptTakeOver(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("it", manifests.Options{})
	deploy(t, app)
	alice, bob := newDesk(t), newDesk(t).As("bob")
	name := app.Deployment.Name
	l := startLoop(t, serviceURL(t, name), "-fresh")
	a, b := serve(t, alice, named("alice")), serve(t, bob, named("bob"))
	timed(t, alice, "intercept", name, "--port", a)
	l.wait(t, "alice", by("alice"))

	said := fails(t, bob, "intercept", name, "--port", b, "--take-over")
	if !strings.Contains(said, "alice@") || strings.Contains(said, "has not been reached") {
		t.Errorf("bob is told of alice, who is there: %s", said)
	}
	session := sessionOf(t, alice).PID
	lost := lose(func() { sendSignal(t, session, syscall.SIGSTOP) })
	// Each pod's agent finds out by itself.
	everyReplica(t, name, 2, "the app", isPodOf(name))
	said = fails(t, bob, "intercept", name, "--port", b)
	for _, want := range []string{"alice@", "that session has not been reached for", "--take-over"} {
		if !strings.Contains(said, want) {
			t.Errorf("bob is not told %q: %s", want, said)
		}
	}
	timed(t, bob, "intercept", name, "--port", b, "--take-over")
	l.wait(t, "bob", by("bob"))
	sendSignal(t, session, syscall.SIGCONT)
	back := time.Now()
	poll(t, "alice sees whose it is", func(context.Context) error {
		if status := tele(t, alice, "status"); !strings.Contains(status, "is intercepted by bob@") {
			return errors.New(status)
		}
		return nil
	})
	l.wait(t, "bob", by("bob"))
	l.never(t, back, "alice")

	timed(t, alice, "leave", name)
	l.wait(t, "bob", by("bob"))
	timed(t, bob, "leave", name)
	l.wait(t, "the app", byAppOf(name))
	l.stop(t, lost)
	nothingLeft(t, name)
}
