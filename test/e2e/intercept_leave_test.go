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

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// TestLeaveWaitsForAnswers: what the laptop was asked before leave, it answers;
// what comes later is the app's.
func TestLeaveWaitsForAnswers(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("iw", manifests.Options{})
	deploy(t, app)
	desk := newDesk(t)
	name := app.Deployment.Name
	asked, answer := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(answer) })
	t.Cleanup(release)
	port := serve(t, desk, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(asked)
			select {
			case <-answer:
			case <-r.Context().Done():
			}
		}
		echo(w, r)
	}))
	url := serviceURL(t, name)
	l := startLoop(t, url, "-fresh")
	timed(t, desk, "intercept", name, "--port", port)
	l.wait(t, "the laptop", byLaptop)
	everyReplica(t, name, 2, "the laptop", isLaptop)

	conn, err := dialInCluster(t, strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /slow HTTP/1.1\r\nHost: iw\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case <-asked:
	case <-ctx.Done():
		t.Fatal("the question does not reach the laptop")
	}
	left := make(chan error, 1)
	leave := desk.Tele(ctx, "leave", name)
	go func() { left <- leave.Run() }()
	l.wait(t, "the app", byApp)
	release()
	got, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("the answer of the laptop: %v", err)
	}
	body, err := io.ReadAll(got.Body)
	if err != nil || got.StatusCode != http.StatusOK || !strings.Contains(string(body), `"`+laptopName+`"`) {
		t.Errorf("status %d, error %v: %s", got.StatusCode, err, body)
	}
	if err := <-left; err != nil {
		t.Errorf("leave: %v", err)
	}
	everyReplica(t, name, 2, "the app", isPodOf(name))
	l.stop(t)
	nothingLeft(t, name)
}
