//go:build linux

package e2e

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

var (
	//go:embed testdata/client.py
	clientPython string
	//go:embed testdata/Client.java
	clientJava string
)

// client is a program that people use. It asks a URL some questions, alice's among
// them, and prints each answer to standard output.
type client struct {
	name  string
	needs string // a command that succeeds where the program is there
	argv  func(dir, url string) []string
}

// curl is curl with what all need; it says how it was answered on standard error.
func curl(args ...string) []string {
	return append([]string{
		"curl", "-sS", "--fail", "--noproxy", "*", "--max-time", "60",
		"-w", "%{stderr}HTTP/%{http_version} %{http_code}, %{num_connects} new connections\n",
	}, args...)
}

// inTurns is curl asking for a URL five times on one connection, some of them as
// alice.
func inTurns(url string, args ...string) []string {
	var all []string
	for i, who := range []string{"bob", "alice", "alice", "bob", "alice"} {
		if i > 0 {
			all = append(all, "--next", "-sS", "--fail", "--noproxy", "*", "--max-time", "60",
				"-w", "%{stderr}HTTP/%{http_version} %{http_code}, %{num_connects} new connections\n")
		}
		all = append(append(all, args...), "-H", "x-tele-user: "+who, fmt.Sprintf("%s/%d?a=%%2f&b", url, i))
	}
	return curl(all...)
}

// inTurns2 is the same on a connection each: curl 7.88 does not use one that began with
// HTTP/2 again.
func inTurns2(url string, args ...string) []string {
	const script = `for who in bob alice; do "$@" -H "x-tele-user: $who" || exit; done`
	all := append([]string{"sh", "-c", script, "sh"}, curl("--http2-prior-knowledge")...)
	return append(append(all, args...), url+"?a=%2f&b")
}

var clientPrograms = []client{
	{"curl", "curl --version", func(_, url string) []string { return inTurns(url) }},
	{"curl, a body", "curl --version", func(_, url string) []string { return inTurns(url, "--data", strings.Repeat("x", 5000)) }},
	{"curl, a body that is asked for", "curl --version", func(dir, url string) []string {
		return inTurns(url, "-H", "Expect: 100-continue", "--data-binary", "@"+filepath.Join(dir, "body"))
	}},
	{"curl, chunks", "curl --version", func(dir, url string) []string {
		return inTurns(url, "-H", "Transfer-Encoding: chunked", "--data-binary", "@"+filepath.Join(dir, "body"))
	}},
	{"curl, odd headers", "curl --version", func(_, url string) []string {
		return inTurns(url, "-H", "x-EMPTY;", "-H", "X-Twice: 1", "-H", "x-twice:2", "-H", "Accept:", "-H", "User-Agent:", "-H", "Cookie: a=1; b=2")
	}},
	{"curl, HTTP/1.0", "curl --version", func(_, url string) []string { return inTurns(url, "--http1.0") }},
	{"curl, offering h2c", "curl --version | grep -q HTTP2", func(_, url string) []string { return inTurns(url, "--http2") }},
	{"curl, HTTP/2", "curl --version | grep -q HTTP2", func(_, url string) []string { return inTurns2(url) }},
	{"curl, HTTP/2 with a body", "curl --version | grep -q HTTP2", func(dir, url string) []string {
		return inTurns2(url, "-H", "Cookie: a=1; b=2", "-H", "te: trailers", "--data-binary", "@"+filepath.Join(dir, "body"))
	}},
	{"python", "python3 --version", func(dir, url string) []string {
		return []string{"python3", filepath.Join(dir, "client.py"), strings.TrimPrefix(url, "http://")}
	}},
	{"java", "java --list-modules | grep -q jdk.compiler@ && java --list-modules | grep -q java.net.http@", func(dir, url string) []string {
		return []string{"java", filepath.Join(dir, "Client.java"), url}
	}},
}

// TestInterceptClients: programs that people use, on a laptop that is connected, get
// the handler's answer to each request that matches and the app's to the others, on
// the connections that they keep; and both are asked what the app was asked before.
func TestInterceptClients(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("icl", manifests.Options{Replicas: 1})
	deploy(t, app)
	name := app.Deployment.Name
	c := connect(t)
	url := "http://" + name
	dir := t.TempDir()
	body := strings.Repeat("0123456789", 30_000)
	for file, text := range map[string]string{"client.py": clientPython, "Client.java": clientJava, "body": body} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leadsTo(t, c.Desk, url, isPodOf(name))

	alone := map[string]answers{}
	for _, p := range clientPrograms {
		t.Run(p.name+", alone", func(t *testing.T) {
			there(t, p)
			got := askBy(t, c.Desk, p.argv(dir, url))
			for i, echo := range got.echoes {
				if !isPodOf(name)(echo.Pod) {
					t.Errorf("request %d is answered by %q, not the app", i, echo.Pod)
				}
			}
			alone[p.name] = got
		})
	}
	timed(t, c.Desk, "intercept", name, "--port", serve(t, c.Desk, http.HandlerFunc(mirror)), "--personal")
	leadsTo(t, c.Desk, url, isLaptop)
	for _, p := range clientPrograms {
		t.Run(p.name, func(t *testing.T) {
			there(t, p)
			was, is := alone[p.name], askBy(t, c.Desk, p.argv(dir, url))
			if len(is.echoes) != len(was.echoes) {
				t.Fatalf("%d answers, without the intercept %d", len(is.echoes), len(was.echoes))
			}
			if is.said != was.said {
				t.Errorf("it says %q, without the intercept %q", is.said, was.said)
			}
			count := map[bool]int{}
			for i, echo := range is.echoes {
				hers := slices.Equal(echo.Headers["X-Tele-User"], []string{"alice"})
				count[hers]++
				if hers && !isLaptop(echo.Pod) || !hers && !isPodOf(name)(echo.Pod) {
					t.Errorf("request %d, alice's: %v, is answered by %q", i, hers, echo.Pod)
				}
				if got, want := asked(t, echo, hers), asked(t, was.echoes[i], hers); got != want {
					t.Errorf("request %d: %s was asked\n%s, want\n%s", i, echo.Pod, got, want)
				}
			}
			if count[true] == 0 || count[false] == 0 {
				t.Errorf("%d requests of alice's and %d others: want some of both", count[true], count[false])
			}
		})
	}
	timed(t, c.Desk, "leave", name)
	nothingLeft(t, name)
}

// there skips a test whose program is not on this machine, and says so; where
// nobody reads what is skipped, it fails.
func there(t *testing.T, p client) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", p.needs).CombinedOutput()
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "e2e: NOT RUN: %s: this machine does not have it: %s: %v: %s\n", t.Name(), p.needs, err, out)
	if os.Getenv("CI") != "" {
		t.Fatalf("%s: %v: %s", p.needs, err, out)
	}
	t.Skipf("NOT RUN: %s: %v: %s", p.needs, err, out)
}

// answers are what a program got.
type answers struct {
	echoes []api.Echo
	said   string // on standard error
}

// askBy runs a program at a laptop; it must succeed.
func askBy(t *testing.T, desk *rig.Desk, argv []string) answers {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := rig.Run(desk.Command(ctx, "", argv...))
	if err != nil {
		t.Fatal(err)
	}
	if result.Code != 0 {
		t.Fatalf("exit code %d: %s\n%.1000s", result.Code, result.Stderr, result.Stdout)
	}
	got := answers{said: result.Stderr}
	for in := json.NewDecoder(strings.NewReader(result.Stdout)); ; {
		var echo api.Echo
		if err := in.Decode(&echo); errors.Is(err, io.EOF) {
			return got
		} else if err != nil {
			t.Fatalf("answer %d is no echo: %v: %.1000s", len(got.echoes), err, result.Stdout)
		}
		got.echoes = append(got.echoes, echo)
	}
}

// asked is what a server was asked, without who it is. The offer of h2c is not made
// to alice's handler: what came after it would be others'.
func asked(t *testing.T, e api.Echo, hers bool) string {
	t.Helper()
	e.Pod, e.Version, e.Remote, e.Local = "", "", "", ""
	if offer := e.Headers.Get("Upgrade"); hers && (offer == "h2c" || offer == "") {
		e.Headers = e.Headers.Clone()
		for _, name := range []string{"Upgrade", "Http2-Settings", "Connection"} {
			e.Headers.Del(name)
		}
	}
	text, err := json.MarshalIndent(e, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// mirror answers all that the http application's echo does.
func mirror(w http.ResponseWriter, r *http.Request) {
	sum, err := api.ReadSum(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(api.Echo{
		Pod: laptopName, Version: "local", Method: r.Method, Host: r.Host, Path: r.URL.Path, Query: r.URL.RawQuery,
		Proto: r.Proto, Headers: r.Header, Remote: r.RemoteAddr, Body: sum,
	})
}

// leadsTo waits until a Service leads a laptop that is connected to nobody else than
// is wanted: for some time it leads to old pods too.
func leadsTo(t *testing.T, desk *rig.Desk, url string, want func(by string) bool) {
	t.Helper()
	poll(t, url+" leads to who is wanted", func(ctx context.Context) error {
		for range 20 {
			ctx, cancel := context.WithTimeout(ctx, dialLimit)
			by, err := getAlice(ctx, desk, url)
			cancel()
			if err != nil {
				return err
			}
			if !want(by) {
				return errors.New("answered by " + by)
			}
		}
		return nil
	})
}

// getAlice is a request of alice's, with a connection of its own.
func getAlice(ctx context.Context, desk *rig.Desk, url string) (by string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("X-Tele-User", "alice")
	reply, err := desk.Transport().RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = reply.Body.Close() }()
	var echo api.Echo
	err = json.NewDecoder(reply.Body).Decode(&echo)
	return echo.Pod, err
}
