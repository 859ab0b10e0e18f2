//go:build linux

package e2e

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// failOpen is three times what is promised.
const failOpen = 15 * time.Second

// sendSignal sends a signal to a session.
func sendSignal(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("signal %v to session %d: %v", sig, pid, err)
	}
}

// kill ends the desk's session without a word to anybody, and returns when.
func kill(t *testing.T, desk *rig.Desk) loss {
	t.Helper()
	pid := sessionOf(t, desk).PID
	return lose(func() { killProcess(t, pid) })
}

// lose tells when something was done.
func lose(do func()) loss {
	from := time.Now()
	do()
	return loss{from, time.Now()}
}

// opens measures how long after begin requests are answered by the app, and
// proves that nobody had to change the Deployment for it.
func opens(t *testing.T, what, name string, l *loop, begin time.Time, generation int64) {
	t.Helper()
	s := l.since(t, begin, "the app", byApp)
	took := s.End().Sub(begin)
	t.Logf("session %s: the app answers after %.2f s", what, took.Seconds())
	if took > failOpen {
		t.Errorf("session %s: the app answers after %s, not within %s", what, took, failOpen)
	}
	everyReplica(t, name, 2, "the app", isPodOf(name))
	if now := getDeployment(t, name).Generation; now != generation {
		t.Errorf("session %s: somebody changed the Deployment (generation %d, then %d)", what, generation, now)
	}
}

// TestInterceptAway: a session that is frozen or cut off gives the traffic to
// the app, and has it again when it is back, by itself.
func TestInterceptAway(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("ia", manifests.Options{})
	deploy(t, app)
	desk := newDesk(t)
	name := app.Deployment.Name
	port := serve(t, desk, http.HandlerFunc(echo))
	l := startLoop(t, serviceURL(t, name), "-fresh")
	timed(t, desk, "intercept", name, "--port", port)
	l.wait(t, "the laptop", byLaptop)
	everyReplica(t, name, 2, "the laptop", isLaptop)
	generation := getDeployment(t, name).Generation
	pid := sessionOf(t, desk).PID
	var lost []loss

	for _, test := range []struct {
		what       string
		away, back func()
	}{
		{
			"frozen",
			func() { sendSignal(t, pid, syscall.SIGSTOP) },
			func() { sendSignal(t, pid, syscall.SIGCONT) },
		},
		{
			"cut off",
			func() {
				if err := desk.LinkDown(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
			func() {
				if err := desk.LinkUp(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		lost = append(lost, lose(test.away))
		opens(t, test.what, name, l, lost[len(lost)-1].to, generation)
		begin := time.Now()
		test.back()
		s := l.since(t, begin, "the laptop", byLaptop)
		t.Logf("session %s: the laptop answers %.2f s after its return", test.what, s.End().Sub(begin).Seconds())
		everyReplica(t, name, 2, "the laptop", isLaptop)
	}

	// In between, requests may have waited, but each had an answer.
	total := l.stop(t, lost...)
	t.Logf("%d requests, slowest %d ms", total.Requests, total.MaxMillis)
	timed(t, desk, "leave", name)
	nothingLeft(t, name)
}

// TestInterceptKilled: what a session that was killed leaves behind harms
// nobody, and a colleague removes it from another machine.
func TestInterceptKilled(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("ik", manifests.Options{})
	deploy(t, app)
	alice, bob := newDesk(t), newDesk(t).As("bob")
	name := app.Deployment.Name
	before := stateOf(t, name, name)
	port := serve(t, alice, http.HandlerFunc(echo))
	l := startLoop(t, serviceURL(t, name), "-fresh")
	timed(t, alice, "intercept", name, "--port", port)
	l.wait(t, "the laptop", byLaptop)
	generation := getDeployment(t, name).Generation

	result, err := rig.Run(bob.Tele(t.Context(), "clean", name))
	if err != nil || result.Code != 0 || !strings.Contains(result.Stderr, "alice@") || !strings.Contains(result.Stderr, "--force") {
		t.Errorf("clean of a live owner: %+v, %v", result, err)
	}
	if now := getDeployment(t, name).Generation; now != generation {
		t.Errorf("clean changed what a live owner uses (generation %d, then %d)", generation, now)
	}
	everyReplica(t, name, 2, "the laptop", isLaptop)

	lost := kill(t, alice)
	opens(t, "killed", name, l, lost.to, generation)

	timed(t, bob, "clean", name)
	everyReplica(t, name, 2, "the app", isPodOf(name))
	total := l.stop(t, lost)
	t.Logf("%d requests, slowest %d ms", total.Requests, total.MaxMillis)
	if after := stateOf(t, name, name); after != before {
		t.Errorf("clean left a difference:\nbefore %s\nafter %s", before, after)
	}
	nothingLeft(t, name)
}
