//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/har"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// TestInterceptRecord: what the handler is asked is kept in a file, without
// credentials, and can be sent to it again when the intercept is gone.
func TestInterceptRecord(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("irec", manifests.Options{})
	deploy(t, app)
	desk := newDesk(t)
	name := app.Deployment.Name
	url := serviceURL(t, name)
	handler := newEverything("alice")
	port := serve(t, desk, handler)
	file := filepath.Join(t.TempDir(), "a.har")
	timed(t, desk, "intercept", name, "--port", port, "--personal", "--record", file)
	const mine = "X-Tele-User:alice"
	for n, protocol := range []string{"http1", "http2", "grpc"} {
		l := runLoad(t, "-count", "1", "-protocol", protocol, "-header", mine, "-header", "Authorization:secret", "-header", "X-Kept:yes",
			"-id", fmt.Sprint(n), "-method", "POST", "-bytes", "100000", url+"/pay?n=1")
		if l.Answers["alice local"] != 1 {
			t.Fatalf("%s: answered by %v: %v", protocol, l.Answers, l.Failures)
		}
	}
	runLoad(t, "-count", "3", url+"/others")
	timed(t, desk, "leave", name)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "secret") || !strings.Contains(strings.ToLower(string(text)), `"x-kept"`) {
		t.Errorf("the record has credentials, or lacks headers:\n%.3000s", text)
	}
	archive, err := har.Read(file)
	if err != nil || len(archive.Log.Entries) != 3 {
		t.Fatalf("%d entries, not 3: %v", len(archive.Log.Entries), err)
	}
	for n, e := range archive.Log.Entries {
		if e.Response.Status != 200 || e.Request.Method != "POST" || e.Error != "" || time.Since(e.Started) > time.Hour {
			t.Errorf("entry %d: %+v", n, e)
		}
		if body, err := e.Request.PostData.Bytes(); err != nil || len(body) < 100_000 {
			t.Errorf("entry %d has a body of %d bytes, %v", n, len(body), err)
		}
	}
	out := tele(t, desk, "replay", file, "-o", "json")
	var said struct {
		Replayed []struct{ Status int }
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil || len(said.Replayed) != 3 {
		t.Fatalf("replay says %s: %v", out, err)
	}
	tele(t, desk, "replay", file, "--only", "2")
	handler.mu.Lock()
	defer handler.mu.Unlock()
	for id, want := range map[string]int{"0-1": 2, "1-1": 3, "2-1": 2} {
		if got := handler.seen[id]; got != want {
			t.Errorf("request %s reached the handler %d times, not %d", id, got, want)
		}
	}
	nothingLeft(t, name)
}
