package splice_test

import (
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// TestReadiness: whoever waits is called once, and nothing that came since the
// last wait is missed.
func TestReadiness(t *testing.T) {
	var r splice.Readiness
	calls := 0
	wait := func(want bool) {
		t.Helper()
		if got := r.Wait(func() { calls++ }); got != want {
			t.Errorf("waits: %v", got)
		}
	}
	wait(true)
	r.Set()
	r.Set()
	if calls != 1 {
		t.Errorf("%d calls after two events", calls)
	}
	wait(false) // the second has not been looked at
	wait(true)
	r.Set()
	wait(true)
	if calls != 2 {
		t.Errorf("%d calls", calls)
	}
}
