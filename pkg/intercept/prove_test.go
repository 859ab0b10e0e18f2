package intercept

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

// said fails the test unless a line with that text is in the log.
func said(t *testing.T, log []string, want string) {
	t.Helper()
	if !slices.ContainsFunc(log, func(line string) bool { return strings.Contains(line, want) }) {
		t.Errorf("not said: %q in\n%s", want, strings.Join(log, "\n"))
	}
}

// TestProve: an intercept through a switched Service is in force when the nodes
// follow the Service, not before; that a node does not follow is said.
func TestProve(t *testing.T) {
	play(t, "follows", func(t *testing.T, s *stage) {
		alice := s.user("alice")
		var switched time.Time
		alice.api.before = func(call string) error {
			if call == "patch service" {
				switched = time.Now()
			}
			return nil
		}
		if err := alice.begin(t.Context(), "8080"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(switched); took < followAfter || took > followAfter+time.Second {
			t.Errorf("in force %s after the switch, but the nodes follow after %s", took, followAfter)
		}
		said(t, alice.told(), "service/web leads to the agents, as seen from node1; nodes without a pod of deployment/store were not asked")
		if err := alice.Close(t.Context(), nil); err != nil {
			t.Error(err)
		}
		s.asBefore()
	})
	play(t, "does not follow", func(t *testing.T, s *stage) {
		s.stuck = true
		alice := s.user("alice")
		if err := alice.begin(t.Context(), "8080"); err != nil {
			t.Fatal(err)
		}
		said(t, alice.told(), "service/web was not seen to lead to the agents from node1")
		if st := alice.Status(); st[0].State != api.Active {
			t.Errorf("it is %s", st[0].State)
		}
		if err := alice.Close(t.Context(), nil); err != nil {
			t.Error(err)
		}
		s.asBefore()
	})
	play(t, "left meanwhile", func(t *testing.T, s *stage) {
		s.stuck = true
		alice := s.user("alice")
		begun := make(chan error, 1)
		go func() { begun <- alice.begin(t.Context(), "8080") }()
		s.await("it is proven", func() bool {
			return slices.Contains(alice.told(), "waiting until service/web leads to the agents from every node")
		})
		if err := alice.Leave(t.Context(), api.LeaveSpec{Workload: "deploy/store"}, nil); err != nil {
			t.Error(err)
		}
		if err := <-begun; err == nil {
			t.Error("it was in force all the same")
		}
		s.asBefore()
	})
}
