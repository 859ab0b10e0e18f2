package intercept

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// filesAlone has the agents there for files, which are shown nowhere.
func (u *user) filesAlone(ctx context.Context) ([]api.InterceptStatus, error) {
	return u.Begin(ctx, api.InterceptSpec{Workload: store, FilesOnly: true, AgentImage: "example.com/agent:1", Timeout: time.Minute}, u.hear)
}

// TestFilesAlone: agents that are there for files take no traffic, stay for as long as
// somebody needs them, and go after the last.
func TestFilesAlone(t *testing.T) {
	withAgent := func(s *stage) bool { return inject.Injected(workload.Deployments{}.View(s.deployment())) }
	clean := func(t *testing.T, s *stage) {
		cleaner := s.user("")
		if _, err := Clean(s.ctx, cleaner.cluster, api.CleanSpec{Timeout: 10 * time.Minute}, cleaner.hear); err != nil {
			t.Errorf("clean: %v", err)
		}
	}
	play(t, "alone", func(t *testing.T, s *stage) {
		alice := s.user("alice")
		begun, err := alice.filesAlone(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st := begun[0]; len(begun) != 1 || st.Port != 0 || st.State != api.Active || len(st.Agents) != 2 || len(st.Capture) != 0 || st.Container != "app" {
			t.Errorf("begun %+v", begun)
		}
		if c := inject.CapturesIn(workload.Deployments{}.View(s.deployment())); len(c) > 0 {
			t.Errorf("captures %v", c)
		}
		said(t, alice.told(), "inject sidecar: one rolling update of 2 pods")
		if _, err := alice.filesAlone(t.Context()); err == nil || !strings.Contains(err.Error(), "the files of deployment/store are shown already") {
			t.Errorf("once more: %v", err)
		}
		time.Sleep(time.Hour)
		clean(t, s)
		if !withAgent(s) {
			t.Error("clean has taken away what somebody uses")
		}
		listed, err := List(s.ctx, alice.cluster)
		if err != nil || listed[0].State != api.Mounted || len(listed[0].Owners) != 1 || !listed[0].Owners[0].Live || listed[0].Owners[0].Port != 0 {
			t.Errorf("listed %+v, %v", listed, err)
		}
		if err := alice.Leave(t.Context(), api.LeaveSpec{Workload: store}, alice.hear); err != nil {
			t.Error(err)
		}
		said(t, alice.told(), "the files of deployment/store are taken away")
		s.asBefore()
	})
	play(t, "beside an intercept", func(t *testing.T, s *stage) {
		alice, bob := s.user("alice"), s.user("bob")
		if _, err := alice.filesAlone(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := bob.begin(t.Context(), "8080"); err != nil {
			t.Fatal(err)
		}
		if st := alice.Status(); len(st) != 1 || st[0].State != api.Active {
			t.Errorf("alice has %+v", st)
		}
		if err := alice.Close(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if st := bob.Status(); !withAgent(s) || len(st) != 1 || st[0].State != api.Active {
			t.Errorf("bob has %+v", st)
		}
		if _, err := alice.filesAlone(t.Context()); err == nil {
			t.Error("a session that has ended begins")
		}
		carol := s.user("carol")
		if _, err := carol.filesAlone(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := bob.Close(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if st := carol.Status(); !withAgent(s) || len(st) != 1 || st[0].State != api.Active {
			t.Errorf("carol has %+v", st)
		}
		if err := carol.Close(t.Context(), nil); err != nil {
			t.Error(err)
		}
		s.asBefore()
	})
	play(t, "a session that is lost", func(t *testing.T, s *stage) {
		alice := s.user("alice")
		if _, err := alice.filesAlone(t.Context()); err != nil {
			t.Fatal(err)
		}
		alice.goAway()
		time.Sleep(lostGrace / 3)
		clean(t, s)
		s.asBefore()
		alice.comeBack()
		_ = alice.Close(t.Context(), nil) // there is nothing left to undo
		s.asBefore()
	})
	play(t, "the agents have restarted", func(t *testing.T, s *stage) {
		alice := s.user("alice")
		if _, err := alice.filesAlone(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		alice.goAway()
		s.restartAgents()
		time.AfterFunc(registerGrace/2, alice.comeBack)
		clean(t, s)
		if !withAgent(s) {
			t.Error("clean has taken away what somebody uses")
		}
		if err := alice.Close(t.Context(), nil); err != nil {
			t.Error(err)
		}
		s.asBefore()
	})
}

// TestFilesAloneOrNotAtAll: whatever call fails, what was changed is put back.
func TestFilesAloneOrNotAtAll(t *testing.T) {
	var begun []api.InterceptStatus
	var err error
	eachCall(t, func(s *stage) (*user, func()) {
		alice := s.user("alice")
		return alice, func() { begun, err = alice.filesAlone(s.t.Context()) }
	}, func(*testing.T, *stage, string) error {
		return errors.New("the disk of etcd is full")
	}, func(t *testing.T, s *stage, alice *user) {
		if st := alice.Status(); len(st) != len(begun) || err == nil != (len(begun) == 1) {
			t.Errorf("begun %d of %d: %v", len(begun), len(st), err)
		}
		if err := alice.Close(t.Context(), nil); err != nil {
			t.Error(err)
		}
		s.asBefore()
	})
}
