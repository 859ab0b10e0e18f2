//go:build linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// patience is how long a test waits for what should take seconds: a busy
// machine must not make it fail.
const patience = 2 * time.Minute

var desks atomic.Int32

// newDesk is a laptop of the test's own, with alice at it. Its sessions are
// ended with the test.
func newDesk(t *testing.T) *rig.Desk {
	t.Helper()
	desk, err := world.Desk(t.Context(), fmt.Sprintf("p%dt%d", os.Getpid(), desks.Add(1)), "alice")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if t.Failed() {
			result, _ := rig.Run(desk.Command(ctx, "", "sh", "-c", "cat $XDG_RUNTIME_DIR/kubectl-tele/*/session.log"))
			t.Logf("session log:\n%s", result.Stdout)
		}
		_, _ = rig.Run(desk.Tele(ctx, "quit", "--all"))
		if err := desk.Close(ctx); err != nil {
			t.Errorf("close the laptop: %v", err)
		}
	})
	return desk
}

// deploy brings applications of the test's own to the cluster, and removes
// them with the test.
func deploy(t *testing.T, apps ...manifests.App) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := world.Remove(ctx, apps...); err != nil {
			t.Errorf("remove the test's applications: %v", err)
		}
	})
	if err := world.Deploy(ctx, apps...); err != nil {
		t.Fatal(err)
	}
}

// mustRun runs a command that must succeed and returns its standard output.
func mustRun(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	result, err := rig.Run(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if result.Code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", strings.Join(cmd.Args, " "), result.Code, result.Stdout, result.Stderr)
	}
	return result.Stdout
}

// tele runs `kubectl tele ARGS`, which must succeed.
func tele(t *testing.T, desk *rig.Desk, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	return mustRun(t, desk.Tele(ctx, args...))
}
