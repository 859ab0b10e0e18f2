//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// everything is a handler for all protocols that answers by a name, and remembers
// which requests it was sent.
type everything struct {
	testgrpc.UnimplementedTestServiceServer
	name string
	grpc *grpc.Server

	mu   sync.Mutex
	seen map[string]int // by X-Id
}

func newEverything(name string) *everything {
	e := &everything{name: name, grpc: grpc.NewServer(), seen: map[string]int{}}
	testgrpc.RegisterTestServiceServer(e.grpc, e)
	return e
}

func (e *everything) UnaryCall(_ context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	return &testgrpc.SimpleResponse{Payload: in.GetPayload(), ServerId: e.name, Hostname: "local"}, nil
}

// sees looks for requests whose X-Id begin with each of these.
func (e *everything) sees(prefixes ...string) func(context.Context) error {
	return func(context.Context) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, prefix := range prefixes {
			found := false
			for id := range e.seen {
				found = found || strings.HasPrefix(id, prefix)
			}
			if !found {
				return fmt.Errorf("none of %s among %d", prefix, len(e.seen))
			}
		}
		return nil
	}
}

func (e *everything) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.seen[r.Header.Get("X-Id")]++
	e.mu.Unlock()
	switch {
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
		e.grpc.ServeHTTP(w, r)
	case websocket.IsWebSocketUpgrade(r):
		e.serveWebSocket(w, r)
	default:
		named(e.name).ServeHTTP(w, r)
	}
}

func (e *everything) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	var upgrader websocket.Upgrader
	conn, err := upgrader.Upgrade(w, r, http.Header{"X-Pod": {e.name}, "X-Version": {"local"}})
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	for {
		kind, data, err := conn.ReadMessage()
		if err != nil || conn.WriteMessage(kind, data) != nil {
			return
		}
	}
}

// crowd is many loops: for each developer, and for nobody in particular, one a
// protocol.
type crowd map[string][]*loop

func (c crowd) each(do func(who string, l *loop)) {
	for who, loops := range c {
		for _, l := range loops {
			do(who, l)
		}
	}
}

// requests is how many there were.
func (c crowd) requests() (n int) {
	c.each(func(_ string, l *loop) {
		l.mu.Lock()
		defer l.mu.Unlock()
		n += len(l.samples)
	})
	return n
}

// TestInterceptMixed: three developers and a global intercept share a Deployment, in
// all protocols at once. Each request lands where it should and is sent once, while
// replicas come and go and one developer is killed.
func TestInterceptMixed(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("im", manifests.Options{})
	deploy(t, app)
	name := app.Deployment.Name
	before := stateOf(t, name, name)
	url := serviceURL(t, name)
	loops := crowd{}
	for who, header := range map[string]string{"alice": "X-Tele-User:alice", "bob": "x-branch:blue-1", "dave": "x-team:red", "carol": "x-nobody:1"} {
		for _, protocol := range []string{"http1", "http2", "grpc", "websocket"} {
			loops[who] = append(loops[who], startLoop(t, url, "-protocol", protocol, "-header", header,
				"-id", who+"-"+protocol, "-method", http.MethodPost, "-bytes", "1000"))
		}
	}
	desks, handlers := map[string]*rig.Desk{}, map[string]*everything{}
	inForce := map[string]time.Time{}
	for _, dev := range []struct{ who, match string }{
		{"alice", "--personal"},
		{"bob", "--http-header=X-Branch~=blue-.*"},
		{"dave", "--http-header=X-Team=red"},
		{"carol", ""},
	} {
		desk := newDesk(t)
		if dev.who == "bob" {
			desk = desk.As("bob")
		}
		handlers[dev.who] = newEverything(dev.who)
		desks[dev.who] = desk
		args := []string{"intercept", name, "--port", serve(t, desk, handlers[dev.who])}
		if dev.match != "" {
			args = append(args, dev.match)
		}
		timed(t, desk, args...)
		inForce[dev.who] = time.Now()
	}
	// From the moment that an intercept is in force, nobody else answers.
	loops.each(func(who string, l *loop) { l.since(t, inForce[who], who, by(who)) })
	for _, replicas := range []int{5, 1} {
		kubectl(t, desks["bob"], "scale", "deployment/"+name, fmt.Sprintf("--replicas=%d", replicas))
		everyReplica(t, name, replicas, "carol", func(by string) bool { return by == "carol" })
	}
	poll(t, "10,000 requests", func(context.Context) error {
		if n := loops.requests(); n < 10_000 {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	stays := time.Now()
	lost := kill(t, desks["alice"])
	for _, l := range loops["alice"] {
		l.wait(t, "carol", by("carol"))
	}
	loops.each(func(who string, l *loop) {
		if who == "alice" {
			if late := l.late(lost.to.Add(failOpen), time.Now(), func(s api.Sample) bool { return !by("carol")(s) }); late > 0 {
				t.Errorf("%s: the share of a lost session is not given back %s later", l.url, failOpen+late)
			}
		}
		strayed := func(s api.Sample) bool {
			// It was on its way when she was killed: then it fails, or is the app's if the agent may
			// send it again, or carol's if the client does.
			wasLost := who == "alice" && s.End().After(stays) && (s.Failure != "" || byAppOf(name)(s) || by("carol")(s))
			return !by(who)(s) && !wasLost
		}
		for _, s := range l.between(inForce[who], stays, strayed) {
			t.Errorf("a request of %s went elsewhere %s after the intercept was in force: %+v", who, s.Begin.Sub(inForce[who]), s)
		}
	})
	kubectl(t, desks["bob"], "scale", "deployment/"+name, "--replicas=2")
	everyReplica(t, name, 2, "carol", func(by string) bool { return by == "carol" })
	for _, who := range []string{"bob", "dave", "carol"} {
		timed(t, desks[who], "leave", name)
	}
	timed(t, desks["bob"], "clean", name)
	loops.each(func(_ string, l *loop) { l.wait(t, "the app", byAppOf(name)) })
	t.Logf("%d requests", loops.requests())
	loops.each(func(who string, l *loop) {
		l.stop(t, lost)
		once(t, l, handlers, lost)
	})
	if after := stateOf(t, name, name); after != before {
		t.Errorf("leave left a difference:\nbefore %s\nafter %s", before, after)
	}
	nothingLeft(t, name)
}

// once fails the test if a request was sent to somebody beside who answered it, but for
// those that were on their way when a session was lost: clients send them again.
func once(t *testing.T, l *loop, handlers map[string]*everything, lost loss) {
	t.Helper()
	for _, s := range l.samples {
		if s.Begin.Before(lost.to) && s.End().After(lost.from) {
			continue
		}
		for who, h := range handlers {
			h.mu.Lock()
			n := h.seen[s.ID]
			h.mu.Unlock()
			if n > 1 || n == 1 && s.Failure == "" && !by(who)(s) {
				t.Errorf("request %s was sent to %s %d times, and answered by %q", s.ID, who, n, s.By)
			}
		}
	}
}
