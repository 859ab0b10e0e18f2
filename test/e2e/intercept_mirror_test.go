//go:build linux

package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// TestInterceptMirror: the app answers everything, in all protocols, and the handler
// gets copies of what it is to; nobody notices, neither when it comes nor when it goes.
func TestInterceptMirror(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("imir", manifests.Options{})
	deploy(t, app)
	desk := newDesk(t)
	name := app.Deployment.Name
	before := stateOf(t, name, name)
	url := serviceURL(t, name)
	loops := crowd{}
	for who, header := range map[string]string{"alice": "X-Tele-User:alice", "others": "x-nobody:1"} {
		for _, protocol := range []string{"http1", "http2", "grpc"} {
			loops[who] = append(loops[who], startLoop(t, url, "-protocol", protocol, "-header", header,
				"-id", who+"-"+protocol, "-method", http.MethodPost, "-bytes", "1000"))
		}
	}
	handler := newEverything("alice")
	timed(t, desk, "intercept", name, "--port", serve(t, desk, handler), "--personal", "--mirror")
	poll(t, "copies in all protocols", handler.sees("alice-http1-", "alice-http2-", "alice-grpc-"))
	if listed := tele(t, desk, "list"); !strings.Contains(listed, "[x-tele-user=alice] (copies)") {
		t.Errorf("the list does not tell of copies:\n%s", listed)
	}
	timed(t, desk, "leave", name)
	loops.each(func(who string, l *loop) {
		l.wait(t, "the app", byAppOf(name))
		l.stop(t)
		for by := range l.total.Answers {
			if !strings.HasPrefix(by, name+"-") {
				t.Errorf("%s of %s answered by %s", l.url, who, by)
			}
		}
	})
	handler.mu.Lock()
	for id, n := range handler.seen {
		if !strings.HasPrefix(id, "alice-") || n != 1 {
			t.Errorf("the handler got %d copies of %s", n, id)
		}
	}
	handler.mu.Unlock()
	if after := stateOf(t, name, name); after != before {
		t.Errorf("leave left a difference:\nbefore %s\nafter %s", before, after)
	}
	nothingLeft(t, name)
}

// TestInterceptRefuse: while the handler does not listen, requests that are meant for
// it are refused, each in its protocol, and others go on to the app.
func TestInterceptRefuse(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("iref", manifests.Options{})
	deploy(t, app)
	desk := newDesk(t)
	name := app.Deployment.Name
	url := serviceURL(t, name)
	l := listen(t, desk)
	port := portOf(l)
	server := &http.Server{Handler: named("alice"), Protocols: new(http.Protocols)} //nolint:gosec // its clients are the test's
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(l) }()
	timed(t, desk, "intercept", name, "--port", port, "--personal", "--on-handler-down", "refuse")
	everyReplica(t, name, 2, "the app", isPodOf(name))
	const mine = "X-Tele-User:alice"
	if got := runLoad(t, "-count", "4", "-header", mine, url); got.Answers["alice local"] != 4 {
		t.Errorf("answered by %v: %v", got.Answers, got.Failures)
	}
	_ = server.Close()
	for protocol, want := range map[string]string{"http1": "status 503", "http2": "status 503", "grpc": "Unavailable"} {
		got := runLoad(t, "-count", "3", "-timeout", "30s", "-protocol", protocol, "-method", http.MethodPut, "-header", mine, url)
		if got.Failed != 3 || !strings.Contains(got.Failures[0], want) {
			t.Errorf("%s without a handler: %+v, want %s", protocol, got, want)
		}
		if got := runLoad(t, "-count", "3", "-protocol", protocol, url); got.Failed > 0 {
			t.Errorf("%s of others: %v", protocol, got.Failures)
		}
	}
	if said := tele(t, desk, "status"); !strings.Contains(said, "handler not reached, requests are refused") {
		t.Errorf("status does not say so:\n%s", said)
	}
	timed(t, desk, "leave", name)
	nothingLeft(t, name)
}
