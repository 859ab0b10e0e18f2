//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// seen is what a watch has told so far.
type seen struct {
	log bytes.Buffer // of the command; read it after ended

	mu    sync.Mutex
	all   []agent.Exchange
	ended chan error
}

// startWatch watches from a desk until the test ends.
func startWatch(t *testing.T, desk *rig.Desk, args ...string) *seen {
	t.Helper()
	cmd := desk.Tele(t.Context(), append([]string{"watch", "-o", "json"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &seen{ended: make(chan error, 1)}
	cmd.Stderr = &s.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.read(out)
		s.ended <- cmd.Wait()
	}()
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	return s
}

func (s *seen) read(out io.Reader) {
	for d := json.NewDecoder(out); ; {
		var e agent.Exchange
		if d.Decode(&e) != nil {
			return
		}
		s.mu.Lock()
		s.all = append(s.all, e)
		s.mu.Unlock()
	}
}

// wait asks until a request is told of, and returns what was told.
func (s *seen) wait(t *testing.T, path string, ask func()) agent.Exchange {
	t.Helper()
	limit := time.Now().Add(patience)
	for time.Now().Before(limit) {
		ask()
		s.mu.Lock()
		for _, e := range s.all {
			if strings.HasPrefix(e.Path, path) {
				s.mu.Unlock()
				return e
			}
		}
		s.mu.Unlock()
	}
	t.Fatalf("no sign of %s within %s", path, patience)
	return agent.Exchange{}
}

// logged looks for a line of the session's log that has all of the texts.
func logged(desk *rig.Desk, texts ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		result, err := rig.Run(desk.Tele(ctx, "logs"))
		if err != nil {
			return err
		}
		for line := range strings.Lines(result.Stdout) {
			if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
				return nil
			}
		}
		return fmt.Errorf("no line with %q", texts)
	}
}

// TestWatchRequests: one who watches a workload sees who answers what, without a
// session of their own; the log of the session has its requests.
func TestWatchRequests(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("iwatch", manifests.Options{})
	deploy(t, app)
	alice, bob := newDesk(t), newDesk(t).As("bob")
	name := app.Deployment.Name
	url := serviceURL(t, name)
	if said := fails(t, bob, "watch", name); !strings.Contains(said, "nobody intercepts") || !strings.Contains(said, "hint: ") {
		t.Errorf("watch without an intercept says: %s", said)
	}
	timed(t, alice, "intercept", name, "--port", serve(t, alice, named("alice")), "--personal", "--log-requests")
	watched, mine := startWatch(t, bob, name), startWatch(t, bob, name, "--mine")
	ask := func(args ...string) func() { return func() { _ = call(t, args...) } }
	e := watched.wait(t, "/others?x=1", ask("-bytes", "1000", url+"/others?x=1"))
	if e.By != nil || e.Status != 200 || e.Method != "POST" || e.Sent != 1000 || e.Got == 0 || !strings.HasPrefix(e.Pod, name+"-") {
		t.Errorf("of a request to the app, told: %+v", e)
	}
	e = watched.wait(t, "/alices", ask("-header", "X-Tele-User:alice", url+"/alices"))
	if e.By == nil || e.By.User != "alice" || e.Status != 200 || e.Millis <= 0 {
		t.Errorf("of a request to alice, told: %+v", e)
	}
	poll(t, "the request in the session's log", logged(alice, "path=/alices", "status=200"))
	timed(t, bob, "intercept", name, "--port", serve(t, bob, named("bob")))
	e = watched.wait(t, "/bobs", ask(url+"/bobs"))
	if e.By == nil || e.By.User != "bob" {
		t.Errorf("of a request that a global intercept has, told: %+v", e)
	}
	mine.wait(t, "/bobs", ask(url+"/bobs"))
	mine.mu.Lock()
	for _, e := range mine.all {
		if e.By == nil || e.By.User != "bob" {
			t.Errorf("--mine shows %+v", e)
		}
	}
	mine.mu.Unlock()
	timed(t, bob, "leave", name)
	timed(t, alice, "leave", name)
	for _, s := range []*seen{watched, mine} {
		if err := <-s.ended; err != nil || !strings.Contains(s.log.String(), "nobody intercepts "+name+" any more") {
			t.Errorf("watch ends with %v: %s", err, s.log.String())
		}
	}
	nothingLeft(t, name)
}
