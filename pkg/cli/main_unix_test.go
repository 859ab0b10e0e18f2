//go:build unix

package cli

import (
	"errors"
	"os/exec"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// The exit code of a handler is that of intercept, as a shell gives it.
func TestHandlerResult(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": 137, "kill -15 $$": 143} {
		err := handlerResult("sh", exec.Command("sh", "-c", script).Run())
		var exit *exitError
		switch {
		case want == 0 && err == nil:
		case !errors.As(err, &exit) || exit.code != want || exit.err != nil:
			t.Errorf("%s: %v", script, err)
		}
	}
	if err := handlerResult("nosuch", exec.Command("/nonexistent/nosuch").Run()); err == nil || len(hint.Of(err)) == 0 {
		t.Errorf("a handler that is not there: %v", err)
	}
}
