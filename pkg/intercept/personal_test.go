package intercept

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

// TestPersonal: several rules of requests share a port with one for the rest, of
// one session or of several.
func TestPersonal(t *testing.T) {
	personal := func(ctx context.Context, u *user, name string) error {
		_, err := u.Begin(ctx, api.InterceptSpec{
			Workload: store, Ports: []api.PortSpec{{Port: "8080", Handler: "localhost:1"}}, Lazy: true, AgentImage: "example.com/agent:1", Timeout: time.Minute,
			Match: []api.Condition{{On: "header", Name: "x-user", Test: "equals", Value: name}},
		}, u.hear)
		return err
	}
	play(t, "several", func(t *testing.T, s *stage) {
		alice, bob := s.user("alice"), s.user("bob")
		for _, name := range []string{"a", "b"} {
			if err := personal(t.Context(), alice, name); err != nil {
				t.Fatal(err)
			}
		}
		if err := personal(t.Context(), alice, "a"); err == nil || !strings.Contains(err.Error(), "is intercepted already, by this session") {
			t.Errorf("the same again: %v", err)
		}
		if err := bob.begin(t.Context(), "8080"); err != nil {
			t.Fatal(err)
		}
		listed, err := List(t.Context(), bob.cluster)
		if err != nil || len(listed) != 1 || len(listed[0].Owners) != 3 {
			t.Fatalf("listed %+v, %v", listed, err)
		}
		short := func() bool { return bob.sorted()[0].shortens(netip.MustParseAddrPort("192.0.2.80:80")) }
		s.await("who asks here is alice's too", func() bool { return !short() })
		for _, o := range listed[0].Owners {
			if o.Live != true || (o.User == "alice") != strings.HasPrefix(o.Match, "x-user=") {
				t.Errorf("listed %+v", o)
			}
		}
		if err := alice.Close(t.Context(), alice.hear); err != nil {
			t.Error(err)
		}
		s.await("bob's are all", short)
		if st := bob.Status(); len(st) != 1 || st[0].State != api.Active {
			t.Errorf("status %+v", st)
		}
		if err := bob.Close(t.Context(), bob.hear); err != nil {
			t.Error(err)
		}
		s.asBefore()
	})
	play(t, "of an older agent", func(t *testing.T, s *stage) {
		s.features = []agent.Feature{agent.FeatureProbe}
		alice, bob := s.user("alice"), s.user("bob")
		if err := alice.begin(t.Context(), "8080"); err != nil {
			t.Fatal(err)
		}
		if err := personal(t.Context(), bob, "b"); err == nil || !strings.Contains(err.Error(), "cannot tell requests apart") {
			t.Errorf("bob: %v", err)
		}
		if err := alice.Close(t.Context(), alice.hear); err != nil {
			t.Error(err)
		}
		s.asBefore()
	})
	play(t, "with conditions that are none", func(t *testing.T, s *stage) {
		alice := s.user("alice")
		_, err := alice.Begin(t.Context(), api.InterceptSpec{Workload: store, Ports: []api.PortSpec{{Port: "8080"}}, Match: []api.Condition{{On: "mood", Test: "equals"}}}, nil)
		if err == nil || !strings.Contains(err.Error(), "unknown subject") {
			t.Errorf("%v", err)
		}
		s.asBefore()
	})
}
