//go:build linux

package e2e

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/netsim"
)

// slowPath is where slow answers only when it may.
const slowPath = "/slow"

// slow is a handler like echo, but for one path.
type slow struct {
	asked chan struct{} // closed when it has been asked
	may   chan struct{} // closed when it may answer
}

func newSlow(t *testing.T) (s *slow, answer func()) {
	s = &slow{asked: make(chan struct{}), may: make(chan struct{})}
	answer = sync.OnceFunc(func() { close(s.may) })
	t.Cleanup(answer)
	return s, answer
}

func (s *slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == slowPath {
		close(s.asked)
		select {
		case <-s.may:
		case <-r.Context().Done():
		}
	}
	echo(w, r)
}

// ask asks a Service from inside the cluster and returns when the laptop has
// the question. answered wants the laptop's answer.
func (s *slow) ask(t *testing.T, url string) (answered func()) {
	t.Helper()
	conn, err := dialInCluster(t, strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, "GET "+slowPath+" HTTP/1.1\r\nHost: slow\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.asked:
	case <-time.After(patience):
		t.Fatal("the question does not reach the laptop")
	}
	return func() {
		t.Helper()
		got, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("the answer of the laptop: %v", err)
		}
		body, err := io.ReadAll(got.Body)
		if err != nil || got.StatusCode != http.StatusOK || !strings.Contains(string(body), `"`+laptopName+`"`) {
			t.Errorf("status %d, error %v: %s", got.StatusCode, err, body)
		}
	}
}

// TestLeaveWaitsForAnswers: what the laptop was asked before leave, it answers;
// what comes later is the app's.
func TestLeaveWaitsForAnswers(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("iw", manifests.Options{})
	deploy(t, app)
	desk := newDesk(t)
	name := app.Deployment.Name
	handler, answer := newSlow(t)
	url := serviceURL(t, name)
	l := startLoop(t, url, "-fresh")
	timed(t, desk, "intercept", name, "--port", serve(t, desk, handler))
	l.wait(t, "the laptop", byLaptop)
	everyReplica(t, name, 2, "the laptop", isLaptop)

	answered := handler.ask(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	left := make(chan error, 1)
	leave := desk.Tele(ctx, "leave", name)
	go func() { left <- leave.Run() }()
	l.wait(t, "the app", byApp)
	answer()
	answered()
	if err := <-left; err != nil {
		t.Errorf("leave: %v", err)
	}
	everyReplica(t, name, 2, "the app", isPodOf(name))
	l.stop(t)
	nothingLeft(t, name)
}

// TestInterceptBadNetwork: connections into the laptop survive a cut network;
// one that swallows everything is a lost session, until it works again.
func TestInterceptBadNetwork(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("ib", manifests.Options{})
	deploy(t, app)
	desk := newDesk(t)
	relay, err := desk.Relay(t.Context(), netsim.Link{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = relay.Close() })
	name := app.Deployment.Name
	handler, answer := newSlow(t)
	url := serviceURL(t, name)
	l := startLoop(t, url, "-fresh")
	timed(t, desk, "intercept", name, "--port", serve(t, desk, handler))
	l.wait(t, "the laptop", byLaptop)
	everyReplica(t, name, 2, "the laptop", isLaptop)

	answered := handler.ask(t, url)
	relay.Cut()
	everyReplica(t, name, 2, "the laptop", isLaptop)
	relay.Cut()
	answer()
	answered()

	hole := lose(relay.Freeze)
	l.wait(t, "the app", byApp)
	begin := time.Now()
	relay.Thaw()
	l.wait(t, "the laptop", byLaptop)
	everyReplica(t, name, 2, "the laptop", isLaptop)
	hole.to = time.Now()
	t.Logf("intercepted again within %.1f s", hole.to.Sub(begin).Seconds())
	timed(t, desk, "leave", name)
	everyReplica(t, name, 2, "the app", isPodOf(name))
	l.stop(t, hole)
	nothingLeft(t, name)
}
