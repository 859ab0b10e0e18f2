package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// take is a registration that takes whole ports.
func take(id string, ports ...uint16) api.Registration {
	r := api.Registration{ID: id, Owner: api.Owner{User: id + "'s user", Host: "host"}}
	for _, p := range ports {
		r.Rules = append(r.Rules, api.Rule{Port: api.Port{Number: p}, Action: api.Take})
	}
	return r
}

// holders returns the IDs of the registrations that hold the captures, in
// their order; "-" is none.
func (a *testAgent) holders() string {
	var ids []string
	for _, c := range a.Info().Captures {
		id := "-"
		if len(c.Holders) > 0 {
			id = c.Holders[0].ID
		}
		ids = append(ids, id)
	}
	return strings.Join(ids, " ")
}

// startTwoApps starts an agent that captures the ports of two apps.
func startTwoApps(t *testing.T, cfg Config) (a *testAgent, first, second uint16) {
	t.Helper()
	_, first = startApp(t)
	_, second = startApp(t)
	cfg.Captures = []api.Capture{{App: first}, {App: second}}
	return startAgent(t, cfg), first, second
}

func mustRegister(t testing.TB, tun *tunnel.Tunnel, r api.Registration) *tunnel.Flow {
	t.Helper()
	flow, err := register(t, tun, r)
	if err != nil {
		t.Fatal(err)
	}
	return flow
}

// refusedFor fails the test unless err is a refusal for reason that says text.
func refusedFor(t *testing.T, err error, reason tunnel.Reason, text string) {
	t.Helper()
	var refused *tunnel.RefusedError
	if !errors.As(err, &refused) || refused.Reason != reason || !strings.Contains(refused.Message, text) {
		t.Errorf("error %v, want %v: %s", err, reason, text)
	}
}

// TestRegistrationsOfOneTunnel: each of several intercepts of a session gets
// the connections of its own ports under its own ID.
func TestRegistrationsOfOneTunnel(t *testing.T) {
	a, first, second := startTwoApps(t, Config{})
	tun := a.connect(t, "s")
	one := mustRegister(t, tun, take("one", first))
	mustRegister(t, tun, take("two", second))
	for i, want := range []string{"one", "two"} {
		client, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", a.CapturePorts()[i]))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := tun.AcceptFlow(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if target := r.Target(); target.Network != api.NetworkIntercept || target.Address != want {
			t.Errorf("port %d was offered to %s", i, target)
		}
		_ = r.Refuse(tunnel.Refused, "")
		_ = client.Close()
	}
	_ = one.Close()
	waitFor(t, "only the first ends", func() bool { return a.holders() == "- two" })
}

// TestRegistrationOfFiles: who wants files alone is told of, takes no port, and comes again
// as the same.
func TestRegistrationOfFiles(t *testing.T) {
	a, first, _ := startTwoApps(t, Config{})
	readers := func() (ids []string) {
		for _, h := range a.Info().Readers {
			ids = append(ids, h.ID)
		}
		return ids
	}
	tun := a.connect(t, "s")
	files := api.Registration{ID: "files", Owner: api.Owner{User: "alice"}, Files: true}
	old := mustRegister(t, tun, files)
	mustRegister(t, tun, take("one", first))
	if got := readers(); !slices.Equal(got, []string{"files"}) {
		t.Errorf("readers %q", got)
	}
	again := mustRegister(t, tun, files)
	if _, err := io.ReadAll(old); err != nil {
		t.Errorf("the former registration ends with %v", err)
	}
	if got := readers(); !slices.Equal(got, []string{"files"}) {
		t.Errorf("readers %q", got)
	}
	_ = again.Close()
	waitFor(t, "it ends", func() bool { return len(readers()) == 0 && a.holders() == "one -" })
	if _, err := api.ParseRegistration([]byte(`{"id":"x","owner":{}}`)); err == nil {
		t.Error("neither rules nor files are a registration")
	}
}

// TestRegistrationOfTwoPorts takes both, or none.
func TestRegistrationOfTwoPorts(t *testing.T) {
	a, first, second := startTwoApps(t, Config{})
	alice, bob := a.connect(t, "alice"), a.connect(t, "bob")
	held := mustRegister(t, alice, take("i", second))
	_, err := register(t, bob, take("j", first, second))
	refusedFor(t, err, tunnel.Conflict, fmt.Sprintf("port %d is intercepted by i's user@host", second))
	_, err = register(t, alice, take("j", first, second))
	refusedFor(t, err, tunnel.Conflict, "i's user@host") // its own other intercept
	_, err = register(t, bob, take("j", first, 1))
	refusedFor(t, err, tunnel.Unknown, "port 1: port is not captured here")
	if got := a.holders(); got != "- i" {
		t.Errorf("after the refusals the holders are %s", got)
	}
	_ = held.Close()
	waitFor(t, "the port is free", func() bool { return a.holders() == "- -" })
	both := mustRegister(t, bob, take("j", first, second))
	if got := a.holders(); got != "j j" {
		t.Errorf("the holders are %s", got)
	}
	_ = both.Close()
	waitFor(t, "both ports are free", func() bool { return a.holders() == "- -" })
}

// TestRegistrationTakesOver: the former self of a registration ends whole, at
// ports that the new one does not ask for too.
func TestRegistrationTakesOver(t *testing.T) {
	a, first, second := startTwoApps(t, Config{})
	old, again := a.connect(t, "s"), a.connect(t, "s")
	former := mustRegister(t, old, take("i", first, second))
	mustRegister(t, again, take("i", first))
	if got := a.holders(); got != "i -" {
		t.Errorf("after the same ID came again the holders are %s", got)
	}
	if _, err := former.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the former registration ended with %v", err)
	}
	mustRegister(t, again, take("i", second))
	if got := a.holders(); got != "- i" {
		t.Errorf("after it moved to another port the holders are %s", got)
	}
	_, err := register(t, a.connect(t, "other"), take("i", second))
	refusedFor(t, err, tunnel.Conflict, "i's user@host") // the ID alone takes nothing over
}

// TestRegistrationOfLostSession yields to who says so, or comes from the same
// laptop, and then ends whole, not only at the port in question.
func TestRegistrationOfLostSession(t *testing.T) {
	a, first, second := startTwoApps(t, Config{PingInterval: 20 * time.Millisecond, PingTimeout: 100 * time.Millisecond})
	lost, freeze := a.connectFrozen(t, "lost")
	mustRegister(t, lost, take("i", first, second))
	if h := a.reg.holders(api.Port{Number: first}); len(h) != 1 || h[0].ID != "i" || h[0].LostSeconds != 0 {
		t.Errorf("the holders are told as %+v", h)
	}
	freeze()
	waitFor(t, "the holder is told as lost", func() bool {
		h := a.reg.holders(api.Port{Number: first})
		return len(h) == 1 && h[0].ID == "i" && h[0].LostSeconds > 0
	})
	bob := a.connect(t, "bob")
	_, err := register(t, bob, take("j", first))
	refusedFor(t, err, tunnel.Conflict, "that session has not been reached for ")
	over := take("j", first)
	over.TakeOver = true
	mustRegister(t, bob, over)
	if got := a.holders(); got != "j -" {
		t.Errorf("the holders are %s", got)
	}
	again := take("k", first)
	again.TakeOver = true
	_, err = register(t, a.connect(t, "carol"), again)
	refusedFor(t, err, tunnel.Conflict, "j's user@host") // who is reached keeps it
	if held := a.reg.claims(api.Port{Number: second}); len(held) > 0 {
		t.Errorf("port %d is still held by %s, which would come back in part", second, held[0].registration.ID)
	}
}

// TestRegistrationAfterACrash: the same user's of the same laptop needs no word.
func TestRegistrationAfterACrash(t *testing.T) {
	a, first, _ := startTwoApps(t, Config{PingInterval: 20 * time.Millisecond, PingTimeout: 100 * time.Millisecond})
	lost, freeze := a.connectFrozen(t, "lost")
	mustRegister(t, lost, take("i", first))
	freeze()
	waitFor(t, "the holder is told as lost", func() bool { return a.reg.holders(api.Port{Number: first})[0].LostSeconds > 0 })
	again := take("j", first)
	again.Owner = take("i").Owner
	mustRegister(t, a.connect(t, "again"), again)
	if got := a.holders(); got != "j -" {
		t.Errorf("the holders are %s", got)
	}
}

// TestRegistrationNotUnderstood takes nothing.
func TestRegistrationNotUnderstood(t *testing.T) {
	a, first, _ := startTwoApps(t, Config{})
	tun := a.connect(t, "s")
	type rule struct {
		Port   uint16 `json:"port"`
		Action string `json:"action"`
		Colour string `json:"colour,omitempty"`
	}
	for text, r := range map[string]rule{
		`unknown field "colour"`: {first, "take", "blue"},
		`unknown action "steal"`: {first, "steal", ""},
	} {
		_, err := openService(t, tun, api.ServiceRegister, map[string]any{"id": "i", "rules": []rule{r}})
		refusedFor(t, err, tunnel.Unknown, text)
	}
	if got := a.holders(); got != "- -" {
		t.Errorf("the holders are %s", got)
	}
}

// TestReplacedHoldEndsAtOnce: not only when its flow has ended.
func TestReplacedHoldEndsAtOnce(t *testing.T) {
	a, first, second := startTwoApps(t, Config{})
	tun := a.connect(t, "s")
	old, err := a.reg.add(take("i", first, second), tun)
	if err != nil {
		t.Fatal(err)
	}
	again, err := a.reg.add(take("i", first), tun)
	if err != nil {
		t.Fatal(err)
	}
	if a.reg.of(api.Port{Number: second}) != nil || old.ended.Err() == nil {
		t.Error("the former hold has not ended")
	}
	a.reg.remove(old) // late, as its flow does it
	if a.reg.of(api.Port{Number: first}).hold != again || again.ended.Err() != nil {
		t.Error("the new hold has ended with the former")
	}
	a.reg.remove(again)
}

// TestNarrowerRulesFirst, in whatever order they come.
func TestNarrowerRulesFirst(t *testing.T) {
	rules := [][]api.Condition{nil}
	for _, prefix := range []string{"/a", "/a/b", "/a/b/c", "/z"} {
		path := api.Condition{On: api.OnPath, Test: api.Prefix, Value: prefix}
		get := api.Condition{On: api.OnMethod, Test: api.AnyOf, Any: []string{"GET"}}
		rules = append(rules, []api.Condition{path}, []api.Condition{path, get})
	}
	for seed := range uint64(200) {
		var claims []*claim
		for _, n := range rand.New(rand.NewPCG(seed, 0)).Perm(len(rules)) {
			match, err := router.NewMatch(rules[n])
			if err != nil {
				t.Fatal(err)
			}
			claims = inOrder(claims, &claim{match: match})
		}
		for i, first := range claims {
			for _, later := range claims[i+1:] {
				if later.match.Within(first.match) {
					t.Fatalf("seed %d: %q is asked before %q", seed, first.match, later.match)
				}
			}
		}
	}
}
