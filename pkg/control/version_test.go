package control

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// A command of another version gets a status, may quit, and is refused all else.
func TestCommandOfAnotherVersion(t *testing.T) {
	dir, f, _, _ := serve(t)
	client := NewClient(dir).http
	for _, version := range []string{"", "0", "2", "one"} {
		ask := func(method, path string) (int, api.Event) {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), method, "http://session"+path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			if version != "" {
				req.Header.Set(versionHeader, version)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			if got := resp.Header.Get(versionHeader); got != strconv.Itoa(api.Version) {
				t.Errorf("%s answers as version %q", path, got)
			}
			var e api.Event
			if resp.StatusCode != http.StatusOK {
				if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
					t.Errorf("%s: %v", path, err)
				}
			}
			return resp.StatusCode, e
		}
		for _, path := range []string{"/stay", "/connect", "/intercepts", "/leave"} {
			code, e := ask(http.MethodPost, path)
			if code == http.StatusOK || e.Error == nil || !strings.Contains(e.Error.Message, "another version") || len(e.Error.HintList) == 0 {
				t.Errorf("%s of version %q: %d %+v", path, version, code, e.Error)
			}
		}
		if code, _ := ask(http.MethodGet, "/status"); code != http.StatusOK {
			t.Errorf("status of version %q: %d", version, code)
		}
	}
	for _, call := range []string{"connect", "intercept", "leave "} {
		if f.count(call) > 0 {
			t.Errorf("%s was done for a command of another version", call)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://session/quit", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || f.count("close") != 1 {
		t.Errorf("quit of another version: %s, closed %d times", resp.Status, f.count("close"))
	}
}

// With a session of another version, a command has a status and may quit; all
// else fails before the session is asked for it.
func TestSessionOfAnotherVersion(t *testing.T) {
	for version, hinted := range map[string]string{"": "quit --force", "2": "upgrade"} {
		dir := t.TempDir()
		l, err := net.Listen("unix", controlSocket(dir))
		if err != nil {
			t.Fatal(err)
		}
		asked := map[string]bool{}
		server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked[r.URL.Path] = true
			if got := versionOf(r.Header); got != api.Version {
				t.Errorf("%s is of version %d", r.URL.Path, got)
			}
			if version != "" {
				w.Header().Set(versionHeader, version)
			}
			switch r.URL.Path {
			case "/status":
				_ = json.NewEncoder(w).Encode(map[string]any{"id": "other", "new": true})
			case "/quit":
				_ = json.NewEncoder(w).Encode(api.Event{End: true})
			}
		})}
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()

		c := NewClient(dir)
		_, connectErr := c.Connect(t.Context(), api.ConnectSpec{}, nil)
		_, interceptErr := c.Intercept(t.Context(), api.InterceptSpec{}, nil)
		for name, err := range map[string]error{
			"stay": c.Stay(t.Context()), "leave": c.Leave(t.Context(), api.LeaveSpec{}, nil),
			"connect": connectErr, "intercept": interceptErr,
		} {
			var other *VersionError
			if !errors.As(err, &other) || strconv.Itoa(other.Session) != version && version != "" || other.Command != api.Version {
				t.Errorf("%s with version %q: %v", name, version, err)
			}
			if hints := strings.Join(hint.Of(err), "\n"); !strings.Contains(hints, hinted) {
				t.Errorf("%s with version %q: hints %q", name, version, hints)
			}
		}
		if st, err := c.Status(t.Context()); err != nil || st.ID != "other" {
			t.Errorf("status of version %q: %+v, %v", version, st, err)
		}
		if err := c.Quit(t.Context(), nil); err != nil {
			t.Errorf("quit version %q: %v", version, err)
		}
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve version %q: %v", version, err)
		}
		for _, path := range []string{"/connect", "/intercepts", "/leave"} {
			if asked[path] {
				t.Errorf("version %q was asked for %s", version, path)
			}
		}
	}
}
