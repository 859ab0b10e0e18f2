package intercept

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// TestLiveOwnerIsNotLost: whatever keeps the agents from telling of an owner who is
// there, a colleague's clean leaves what the owner uses.
func TestLiveOwnerIsNotLost(t *testing.T) {
	begun := func(t *testing.T, s *stage) *user {
		alice := s.user("alice")
		if err := alice.begin(t.Context(), "8080"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		return alice
	}
	stays := func(t *testing.T, s *stage) {
		cleaner := s.user("")
		if _, err := Clean(s.ctx, cleaner.cluster, api.CleanSpec{Timeout: 10 * time.Minute}, cleaner.hear); err != nil {
			t.Errorf("clean: %v", err)
		}
		said(t, cleaner.told(), "skipped (--force takes it)")
		if !inject.Injected(workload.Deployments{}.View(s.deployment())) {
			t.Errorf("the agent was taken out; said: %q", cleaner.told())
		}
	}
	ends := func(t *testing.T, s *stage, u *user) {
		if err := u.Close(t.Context(), u.hear); err != nil {
			t.Errorf("leave: %v", err)
		}
		s.asBefore()
	}
	play(t, "no pod is there", func(t *testing.T, s *stage) {
		alice := begun(t, s)
		s.scale(0)
		stays(t, s)
		s.scale(2)
		ends(t, s, alice)
	})
	play(t, "the agents have restarted", func(t *testing.T, s *stage) {
		alice := begun(t, s)
		alice.goAway()
		s.restartAgents()
		time.AfterFunc(registerGrace/2, alice.comeBack)
		stays(t, s)
		ends(t, s, alice)
	})
	play(t, "the tunnel is lost for a moment", func(t *testing.T, s *stage) {
		alice := begun(t, s)
		alice.goAway()
		time.Sleep(lostGrace / 3)
		time.AfterFunc(lostGrace/3, alice.comeBack)
		stays(t, s)
		ends(t, s, alice)
	})
	play(t, "a second port rolls out", func(t *testing.T, s *stage) {
		leftBehind(t, s)
		s.slow = 40 * time.Second
		bob := s.user("bob")
		result := make(chan error, 1)
		go func() { result <- bob.begin(s.ctx, "9090") }()
		time.Sleep(30 * time.Second)
		stays(t, s)
		if err := <-result; err != nil {
			t.Errorf("bob: %v", err)
		}
		if st := bob.Status(); len(st) != 1 || st[0].State != api.Active {
			t.Errorf("status %+v", st)
		}
		time.Sleep(registerGrace) // then the agents can tell of the other owner
		ends(t, s, bob)
	})
}

// TestLostOwner: an owner whose session the agents have lost for long is not kept.
func TestLostOwner(t *testing.T) {
	play(t, "clean", func(t *testing.T, s *stage) {
		alice := s.user("alice")
		if err := alice.begin(t.Context(), "8080"); err != nil {
			t.Fatal(err)
		}
		alice.goAway()
		time.Sleep(5 * time.Second)
		cleaner := s.user("")
		if _, err := Clean(s.ctx, cleaner.cluster, api.CleanSpec{Timeout: 10 * time.Minute}, cleaner.hear); err != nil {
			t.Errorf("clean: %v", err)
		}
		said(t, cleaner.told(), "may come back: waiting until that is known")
		s.asBefore()
		alice.comeBack()
		if err := alice.Close(t.Context(), alice.hear); err != nil {
			t.Errorf("leave: %v", err)
		}
	})
}

// scale gives store as many pods, and waits for them.
func (s *stage) scale(n int32) {
	s.modify(deployments, store, func(obj object) {
		obj.(*appsv1.Deployment).Spec.Replicas = &n
		obj.SetGeneration(obj.GetGeneration() + 1)
	})
	s.poke()
	s.await("scaled", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.agents) == int(n)
	})
}

// restartAgents makes each agent a new process.
func (s *stage) restartAgents() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, a := range s.agents {
		a.stop()
		s.agents[name] = newTestAgent(s, a.pod)
	}
}
