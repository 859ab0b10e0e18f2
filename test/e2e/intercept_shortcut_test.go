//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// TestInterceptShortcut: what this laptop's own processes ask of a Service whose traffic
// comes to this laptop goes to the handler at once, and through the cluster and back where
// that is asked for; while nobody listens here, the app answers.
func TestInterceptShortcut(t *testing.T) {
	t.Parallel()
	deploy(t, manifests.HTTP("is-one", manifests.Options{Image: world.AppsImage}), manifests.HTTP("is-two", manifests.Options{Image: world.AppsImage}))
	c := connect(t)
	calls := func(url string, n int, isRight func(string) bool) (each time.Duration) {
		t.Helper()
		begin := time.Now()
		for range n {
			answer, err := get(t.Context(), c.Desk, url)
			if err != nil || !isRight(answer.Pod) {
				t.Fatalf("%s: answered by %q, %v", url, answer.Pod, err)
			}
		}
		return time.Since(begin) / time.Duration(n)
	}
	shortened := func() (all []int64) {
		for _, i := range sessionOf(t, c.Desk).Intercepts {
			all = append(all, i.Shortened)
		}
		return all
	}
	const n = 20
	one, two := "http://is-one."+namespace, "http://is-two."+namespace
	for _, url := range []string{one, two} {
		poll(t, url+" answers the laptop", func(ctx context.Context) error {
			_, err := get(ctx, c.Desk, url)
			return err
		})
	}
	away := calls(two, n, isPodOf("is-two"))
	// kept is what a request takes over a connection that is there.
	kept := func(url string) (each time.Duration) {
		t.Helper()
		client := &http.Client{Transport: c.Transport()}
		defer client.CloseIdleConnections()
		var begin time.Time
		for i := range 10 * n {
			reply, err := client.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, reply.Body); err != nil {
				t.Fatal(err)
			}
			_ = reply.Body.Close()
			if i == 0 {
				begin = time.Now()
			}
		}
		return time.Since(begin) / (10*n - 1)
	}

	// The handler of one asks two, whose handler is here too.
	l := listen(t, c.Desk)
	serveOn(t, l, http.HandlerFunc(echo))
	handlerOfOne := serve(t, c.Desk, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer, err := get(r.Context(), c.Desk, two); err != nil || answer.Pod != laptopName {
			http.Error(w, fmt.Sprintf("two: %s, %v", answer.Pod, err), http.StatusBadGateway)
			return
		}
		echo(w, r)
	}))
	timed(t, c.Desk, "intercept", "is-one", "--port", handlerOfOne)
	timed(t, c.Desk, "intercept", "is-two", "--port", portOf(l))
	short := calls(one, n, isLaptop)
	if got := shortened(); len(got) != 2 || got[0] < n || got[1] < n {
		t.Errorf("%v connections took the short way, of %d each", got, n)
	}
	shortKept := kept(two)
	timed(t, c.Desk, "leave", "is-two")
	timed(t, c.Desk, "intercept", "is-two", "--port", portOf(l), "--no-shortcut")
	long := calls(two, n, isLaptop)
	if got := shortened(); len(got) != 2 || got[1] != 0 {
		t.Errorf("%v connections took the short way, though it is not wanted", got)
	}
	t.Logf("a call: %v at the app, %v of one handler to another by the short way (two calls), %v through the cluster and back", away, short, long)
	t.Logf("a request over a connection that is there: %v by the short way, %v through the cluster and back", shortKept, kept(two))

	timed(t, c.Desk, "leave", "is-two")
	timed(t, c.Desk, "intercept", "is-two", "--port", portOf(l))
	calls(two, 1, isLaptop)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	calls(two, n, isPodOf("is-two"))
	timed(t, c.Desk, "leave", "--all")
	calls(one, 1, isPodOf("is-one"))
	nothingLeft(t, "is-one", "is-two")
}
