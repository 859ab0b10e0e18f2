//go:build linux

package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// named answers as echo does, by another name.
func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum, err := api.ReadSum(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(api.Echo{Pod: name, Version: "local", Method: r.Method, Path: r.URL.Path, Body: sum})
	})
}

// by is for wait.
func by(name string) func(api.Sample) bool {
	return func(s api.Sample) bool { return s.Failure == "" && strings.HasPrefix(s.By, name+" ") }
}

// never fails the test if one of these names has answered a loop since begin.
func (l *loop) never(t *testing.T, begin time.Time, names ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.samples {
		for _, name := range names {
			if s.Begin.After(begin) && by(name)(s) {
				t.Fatalf("%s answered %s at %s", name, l.url, s.Begin)
			}
		}
	}
}

// TestInterceptPersonal: three developers share a port of one Deployment of two
// replicas. Each gets the requests that they mean, on connections that clients keep
// too; everybody else's go where they went before, and nobody's get lost.
func TestInterceptPersonal(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("ip", manifests.Options{})
	deploy(t, app)
	alice, bob, carol := newDesk(t), newDesk(t).As("bob"), newDesk(t)
	name := app.Deployment.Name
	before := stateOf(t, name, name)
	url := serviceURL(t, name)
	begin := time.Now()
	others, fresh := startLoop(t, url), startLoop(t, url, "-fresh")
	alices, bobs := startLoop(t, url, "-header", "X-Tele-User:alice"), startLoop(t, url, "-fresh", "-header", "x-branch:blue-1")
	a, b, c := serve(t, alice, named("alice")), serve(t, bob, named("bob")), serve(t, carol, named("carol"))

	timed(t, alice, "intercept", name, "--port", a, "--personal")
	alices.wait(t, "alice", by("alice"))
	timed(t, bob, "intercept", name, "--port", b, "--http-header", "X-Branch~=blue-.*", "--http-method", "GET")
	bobs.wait(t, "bob", by("bob"))
	said := fails(t, bob, "intercept", name, "--port", b, "--http-header", "x-tele-user")
	if !strings.Contains(said, "alice@") || !strings.Contains(said, "x-tele-user=alice") {
		t.Errorf("bob is not told whose requests his contain: %s", said)
	}
	others.wait(t, "the app", byAppOf(name))
	others.never(t, begin, "alice", "bob", "carol")
	fresh.never(t, begin, "alice", "bob", "carol")

	global := time.Now()
	timed(t, carol, "intercept", name, "--port", c)
	for l, who := range map[*loop]string{others: "carol", fresh: "carol", alices: "alice", bobs: "bob"} {
		l.wait(t, who, by(who))
	}
	if listed := tele(t, bob, "list", "-o", "wide"); !strings.Contains(listed, "[x-tele-user=alice]") || !strings.Contains(listed, "[X-Branch~=blue-.* method=GET]") {
		t.Errorf("the list does not tell who intercepts what:\n%s", listed)
	}
	kubectl(t, bob, "scale", "deployment/"+name, "--replicas=3")
	everyReplica(t, name, 3, "carol", func(by string) bool { return by == "carol" })
	kubectl(t, bob, "scale", "deployment/"+name, "--replicas=2")
	everyReplica(t, name, 2, "carol", func(by string) bool { return by == "carol" })
	alices.never(t, begin, "bob", "carol")
	bobs.never(t, begin, "alice")
	alices.never(t, global, "bob")

	lost := kill(t, alice)
	alices.wait(t, "carol", by("carol"))
	if late := alices.late(lost.to.Add(failOpen), time.Now(), func(s api.Sample) bool { return !by("carol")(s) }); late > 0 {
		t.Errorf("the share of a lost session is not given back %s after", failOpen+late)
	}
	timed(t, bob, "leave", name)
	bobs.wait(t, "carol", by("carol"))
	timed(t, carol, "leave", name)
	for _, l := range []*loop{others, fresh, alices, bobs} {
		l.wait(t, "the app", byAppOf(name))
	}
	timed(t, bob, "clean", name)
	for _, l := range []*loop{others, fresh, alices, bobs} {
		l.stop(t, lost)
	}
	if after := stateOf(t, name, name); after != before {
		t.Errorf("leave left a difference:\nbefore %s\nafter %s", before, after)
	}
	nothingLeft(t, name)
}

// byAppOf is for wait.
func byAppOf(deployment string) func(api.Sample) bool {
	return func(s api.Sample) bool { return s.Failure == "" && strings.HasPrefix(s.By, deployment+"-") }
}
