package intercept

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
)

// beginBoth intercepts both ports of store, as one command.
func (u *user) beginBoth(ctx context.Context, workload string) ([]api.InterceptStatus, error) {
	return u.Begin(ctx, api.InterceptSpec{
		Workload: workload, Ports: []api.PortSpec{{Port: "8080", Handler: "localhost:1"}, {Port: "9090"}},
		Lazy: true, AgentImage: "example.com/agent:1", Timeout: time.Minute,
	}, u.hear)
}

// TestTogether: what one command intercepts begins together, in one rolling update, or
// not at all.
func TestTogether(t *testing.T) {
	for _, name := range []string{store, "deploy/store"} {
		play(t, name, func(t *testing.T, s *stage) {
			alice := s.user("alice")
			before := len(s.sets())
			begun, err := alice.beginBoth(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if len(begun) != 2 || begun[0].Port != 8080 || begun[1].Port != 9090 || begun[0].Handler != "localhost:1" || begun[1].Handler != "localhost:9090" {
				t.Errorf("begun %+v", begun)
			}
			for _, st := range alice.Status() {
				if st.State != api.Active || len(st.Agents) != 2 {
					t.Errorf("status %+v", st)
				}
			}
			if n := len(s.sets()) - before; n != 1 {
				t.Errorf("%d rolling updates", n)
			}
			told := 0
			for _, line := range alice.told() {
				if strings.Contains(line, "one rolling update") {
					told++
				}
			}
			if told != 1 {
				t.Errorf("told %d times of one rolling update: %q", told, alice.told())
			}
			// Each is an intercept of its own.
			if err := alice.Leave(t.Context(), api.LeaveSpec{IDs: []string{begun[0].ID}}, nil); err != nil {
				t.Error(err)
			}
			if st := alice.Status(); len(st) != 1 || st[0].Port != 9090 || st[0].State != api.Active {
				t.Errorf("status %+v", st)
			}
			if err := alice.Close(t.Context(), nil); err != nil {
				t.Error(err)
			}
			s.asBefore()
		})
	}
	play(t, "one is there", func(t *testing.T, s *stage) {
		alice := s.user("alice")
		if err := alice.begin(t.Context(), "9090"); err != nil {
			t.Fatal(err)
		}
		if _, err := alice.beginBoth(t.Context(), store); err == nil || !strings.Contains(err.Error(), "port 9090 is intercepted already, by this session") {
			t.Errorf("begin: %v", err)
		}
		if st := alice.Status(); len(st) != 1 || st[0].Port != 9090 || st[0].State != api.Active {
			t.Errorf("status %+v", st)
		}
		if owners, err := inject.Owners(s.deployment()); err != nil || len(owners) != 1 {
			t.Errorf("owners %v, %v", owners, err)
		}
		if err := alice.Close(t.Context(), nil); err != nil {
			t.Error(err)
		}
		s.asBefore()
	})
	play(t, "the same port twice", func(t *testing.T, s *stage) {
		_, err := s.user("alice").Begin(t.Context(), api.InterceptSpec{
			Workload: store, Ports: []api.PortSpec{{Port: "8080"}, {Port: "web:80"}}, Lazy: true, Timeout: time.Minute,
		}, nil)
		if err == nil || !strings.Contains(err.Error(), "port 8080 of deployment/store is named twice") {
			t.Errorf("begin: %v", err)
		}
		s.asBefore()
	})
}

// TestTogetherOrNotAtAll: whatever call fails, neither stays behind alone.
func TestTogetherOrNotAtAll(t *testing.T) {
	var begun []api.InterceptStatus
	var err error
	eachCall(t, func(s *stage) (*user, func()) {
		alice := s.user("alice")
		return alice, func() { begun, err = alice.beginBoth(s.t.Context(), store) }
	}, func(*testing.T, *stage, string) error {
		return errors.New("the disk of etcd is full")
	}, func(t *testing.T, s *stage, alice *user) {
		if st := alice.Status(); len(st) != len(begun) || err == nil != (len(begun) == 2) {
			t.Errorf("begun %d of %d: %v", len(begun), len(st), err)
		}
		if err := alice.Close(t.Context(), nil); err != nil {
			t.Error(err)
		}
		s.asBefore()
	})
}
