//go:build linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// The processes of a connected laptop, by an argument that they alone have.
const (
	sessionArg = "__session"
	helperArg  = "--detached"
)

// left is what status says when nobody is there to put DNS back.
const left = "has not put this machine's DNS back: kubectl tele quit does"

// statusSays fails unless status says so to the person, besides the data.
func statusSays(ctx context.Context, c connected, what string) error {
	result, err := rig.Run(c.Tele(ctx, "status"))
	if err == nil && (result.Code != 0 || !strings.Contains(result.Stderr, what)) {
		err = fmt.Errorf("status: %+v", result)
	}
	return err
}

// killProcess ends a process without a word to anybody.
func killProcess(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ends(t, pid)
}

// TestConnectSessionKilled: the helper puts the laptop back when the session
// is gone.
func TestConnectSessionKilled(t *testing.T) {
	t.Parallel()
	c := connect(t)
	begin := time.Now()
	killProcess(t, pidOf(t, c.Desk, sessionArg))
	c.asBefore(t, begin, soon)
	if out := tele(t, c.Desk, "status", "-o", "name"); out != "" {
		t.Errorf("status of a session that was killed: %s", out)
	}
	c.connect(t)
	c.answers(t, time.Now())
	tele(t, c.Desk, "quit")
	c.asBefore(t, time.Now(), soon)
}

// TestConnectHelperKilled: the network goes on without the helper, status says
// that it is gone, and either quit or connect puts right what it held.
func TestConnectHelperKilled(t *testing.T) {
	t.Parallel()
	c := connect(t)
	kill := func() {
		t.Helper()
		killProcess(t, pidOf(t, c.Desk, helperArg))
		poll(t, "status says that the helper is gone", func(ctx context.Context) error {
			return statusSays(ctx, c, left)
		})
		c.answers(t, time.Now())
	}
	kill()
	c.connect(t) // with another helper
	c.answers(t, time.Now())
	if err := statusSays(t.Context(), c, left); err == nil {
		t.Error("status still says that the helper is gone after another connect")
	}
	kill()
	tele(t, c.Desk, "quit")
	c.asBefore(t, time.Now(), soon)
}

// TestConnectAllKilled: with nobody left to undo it, the resolver still points
// at the session; status says so, and the next command puts it back.
func TestConnectAllKilled(t *testing.T) {
	t.Parallel()
	c := connect(t)
	kill := func() {
		t.Helper()
		helper, session := pidOf(t, c.Desk, helperArg), pidOf(t, c.Desk, sessionArg)
		killProcess(t, helper)
		killProcess(t, session)
		if err := statusSays(t.Context(), c, left); err != nil {
			t.Errorf("status does not say what is left and who puts it back: %v", err)
		}
	}
	kill()
	c.connect(t)
	c.answers(t, time.Now())
	if got, err := c.LookupHost(t.Context(), officeName); err != nil || got[0] != officeAddress {
		t.Errorf("%s is %v, %v", officeName, got, err)
	}
	kill()
	tele(t, c.Desk, "quit")
	c.asBefore(t, time.Now(), soon)
}

// TestConnectResolvConfChanged: what somebody else wrote into resolv.conf
// meanwhile stays, however the session ends.
func TestConnectResolvConfChanged(t *testing.T) {
	t.Parallel()
	const theirs = "# somebody else's\nnameserver 198.18.0.53\n"
	for name, end := range map[string]func(*testing.T, connected){
		"Quit": func(t *testing.T, c connected) { tele(t, c.Desk, "quit") },
		"SessionKilled": func(t *testing.T, c connected) {
			helper := pidOf(t, c.Desk, helperArg)
			killProcess(t, pidOf(t, c.Desk, sessionArg))
			ends(t, helper)
		},
		"AllKilled": func(t *testing.T, c connected) {
			helper, session := pidOf(t, c.Desk, helperArg), pidOf(t, c.Desk, sessionArg)
			killProcess(t, helper)
			killProcess(t, session)
			tele(t, c.Desk, "quit")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := connect(t)
			// In place, as this file is a bind mount at the laptop.
			if err := os.WriteFile(c.ResolvFile(), []byte(theirs), 0o644); err != nil {
				t.Fatal(err)
			}
			end(t, c)
			c.before.ResolvConf = theirs
			c.asBefore(t, time.Now(), soon)
			// Nothing is left that would trouble the next session.
			c.connect(t)
			c.answers(t, time.Now())
			tele(t, c.Desk, "quit")
			c.asBefore(t, time.Now(), soon)
		})
	}
}

// TestConnectFrozenQuit: a session that will never answer again is told of, and
// quit --force ends it; its helper puts the laptop back.
func TestConnectFrozenQuit(t *testing.T) {
	t.Parallel()
	c := connect(t)
	pid := pidOf(t, c.Desk, sessionArg)
	sendSignal(t, pid, syscall.SIGSTOP)
	if err := statusSays(t.Context(), c, "kubectl tele quit --force ends it"); err != nil {
		t.Error(err)
	}
	for _, args := range [][]string{{"quit"}, {"connect"}, {"leave", "front"}} {
		mistake{name: "Frozen", args: args, says: []string{"does not answer", "kubectl tele quit --force"}}.made(t, c.Desk)
	}
	begin := time.Now()
	tele(t, c.Desk, "quit", "--force")
	ends(t, pid)
	c.asBefore(t, begin, soon)
	c.connect(t)
	c.answers(t, time.Now())
	tele(t, c.Desk, "quit")
	c.asBefore(t, time.Now(), soon)
}
