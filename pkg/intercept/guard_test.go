package intercept

import (
	"errors"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

// TestAgentTakenOut: when others take the agent of a port out, the Services that
// lead there by number are given back, whatever stands in the way at first; other
// ports' stay.
func TestAgentTakenOut(t *testing.T) {
	target := func(s *stage, name string) int32 {
		return s.get(services, name).(*corev1.Service).Spec.Ports[0].TargetPort.IntVal
	}
	begin := func(t *testing.T, u *user, port string) {
		t.Helper()
		if err := u.begin(t.Context(), port); err != nil {
			t.Fatal(err)
		}
	}
	left := func(t *testing.T, s *stage, users ...*user) {
		t.Helper()
		for _, u := range users {
			if st := u.Status(); st[0].State != api.Degraded || st[0].Notice == "" {
				t.Errorf("status %+v", st)
			}
			if err := u.Close(t.Context(), u.hear); err != nil {
				t.Errorf("leave: %v", err)
			}
		}
		s.asBefore()
	}
	play(t, "rollout undo", func(t *testing.T, s *stage) {
		app := s.deployment().Spec.Template
		alice := s.user("alice")
		begin(t, alice, "8080")
		s.template(app)
		s.await("the Service leads to the app", func() bool { return target(s, "web") == 8080 })
		left(t, s, alice)
	})
	play(t, "not allowed at first", func(t *testing.T, s *stage) {
		app := s.deployment().Spec.Template
		alice := s.user("alice")
		begin(t, alice, "8080")
		until := time.Now().Add(90 * time.Second)
		alice.api.before = func(call string) error {
			if call == "patch service" && time.Now().Before(until) {
				return apierrors.NewForbidden(services.GroupResource(), "web", errors.New("a policy says so"))
			}
			return nil
		}
		s.template(app)
		s.await("the Service leads to the app", func() bool { return time.Now().After(until) && target(s, "web") == 8080 })
		left(t, s, alice)
	})
	play(t, "rollout undo to another's agent", func(t *testing.T, s *stage) {
		alice, bob := s.user("alice"), s.user("bob")
		begin(t, alice, "8080")
		alone := s.deployment().Spec.Template
		begin(t, bob, "9090")
		s.template(alone)
		s.await("bob's Service leads to the app", func() bool { return target(s, "admin") == 9090 })
		if at := target(s, "web"); at == 8080 {
			t.Errorf("the Service of the other port has been given back, too")
		}
		if st := alice.Status(); st[0].Notice != "" {
			t.Errorf("alice: %+v", st)
		}
		if err := alice.Close(t.Context(), alice.hear); err != nil {
			t.Errorf("alice leaves: %v", err)
		}
		left(t, s, bob)
	})
	play(t, "deleted and made anew", func(t *testing.T, s *stage) {
		fresh := deployment()
		fresh.UID = "store-again"
		alice := s.user("alice")
		begin(t, alice, "8080")
		s.spoil()
		if err := s.tracker.Delete(deployments, shop, store); err != nil {
			t.Fatal(err)
		}
		s.add(deployments, fresh)
		s.poke()
		s.await("the Service leads to the app", func() bool { return target(s, "web") == 8080 })
		s.await("the old pods are gone", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.agents) == 0
		})
		for _, set := range s.sets() { // the garbage collector's work
			if set.OwnerReferences[0].UID != fresh.UID {
				_ = s.tracker.Delete(replicaSets, shop, set.Name)
			}
		}
		left(t, s, alice)
	})
}

// template gives store another template, as rollout undo does.
func (s *stage) template(to corev1.PodTemplateSpec) {
	s.spoil()
	s.modify(deployments, store, func(obj object) {
		obj.(*appsv1.Deployment).Spec.Template = to
		obj.SetGeneration(obj.GetGeneration() + 1)
	})
	s.poke()
}

func (s *stage) spoil() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoilt = true
}
