package intercept

import (
	"testing"
	"time"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// TestGoesFirst: of two who came first at one agent each, one goes on; who came first at none
// gives way to whoever did.
func TestGoesFirst(t *testing.T) {
	port, now := agent.Port{Number: 8080}, time.Now()
	holder := func(id string, since time.Time) agent.Holder {
		return agent.Holder{ID: id, Owner: agent.Owner{Since: since}}
	}
	alice, bob, twin := holder("a", now), holder("b", now.Add(time.Second)), holder("c", now)
	agents := func(each ...agent.Holder) (all []agent.Info) {
		for _, h := range each {
			all = append(all, agent.Info{Captures: []agent.CaptureInfo{
				{Capture: agent.Capture{App: 9090}, Holders: []agent.Holder{holder("of another port", time.Time{})}},
				{Capture: agent.Capture{App: 8080}, Holders: []agent.Holder{h}},
			}})
		}
		return all
	}
	for _, tc := range []struct {
		what   string
		me     agent.Holder
		agents []agent.Info
		want   bool
	}{
		{"first of two", alice, agents(alice, bob), true},
		{"second of two", bob, agents(alice, bob), false},
		{"at the same time, by their names", alice, agents(twin, alice), true},
		{"at the same time, by their names, the other", twin, agents(twin, alice), false},
		{"nowhere", alice, agents(bob, bob), false},
		{"no agent", alice, nil, false},
	} {
		if got := goesFirst(tc.me, port, tc.agents); got != tc.want {
			t.Errorf("%s: %t", tc.what, got)
		}
	}
}
