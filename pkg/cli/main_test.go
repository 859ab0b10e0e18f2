package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// run is what a person types after `kubectl tele`, at a place where there is
// no cluster and no session.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	alone(t)
	var out, errOut bytes.Buffer
	code = Main(args, strings.NewReader(""), &out, &errOut)
	return code, out.String(), errOut.String()
}

func alone(t *testing.T) {
	t.Helper()
	if os.Getenv("TELE_TEST_ALONE") != "" {
		return
	}
	t.Setenv("TELE_TEST_ALONE", "1")
	t.Setenv("KUBECONFIG", os.DevNull)
	t.Setenv("HOME", t.TempDir())
	dir, err := os.MkdirTemp("", "tele") //nolint:usetesting // short, as sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)
}

func TestWrongUse(t *testing.T) {
	for _, test := range []struct {
		args string
		says string
	}{
		{"--nosuch", "--nosuch"},
		{"conect", "kubectl tele connect"},
		{"nothing-like-it", "kubectl tele --help"},
		{"connect --nosuch", "kubectl tele connect --help"},
		{"connect front", "front"},
		{"connect --timeout 0s", "--timeout"},
		{"connect --timeout=-1s", "--timeout"},
		{"connect --timeout soon", "--timeout"},
		{"connect -o table", "json"},
		{"intercept", "workload"},
		{"intercept a b", "workload"},
		{"intercept a --", "after --"},
		{"intercept -- true", "workload"},
		{"intercept a --port 0", "port number"},
		{"intercept a --port 70000", "port number"},
		{"intercept a --port 99999:80", "port number"},
		{"intercept a --to nowhere", "HOST:PORT"},
		{"intercept a --to :80", "HOST:PORT"},
		{"intercept a --to host:0", "HOST:PORT"},
		{"intercept a --to host:80 --port 80", "exclude"},
		{"intercept a --timeout 0s", "--timeout"},
		{"intercept a --http-path=", "empty"},
		{"intercept a --http-path-prefix=", "empty"},
		{"intercept a --http-path-regex=", "empty"},
		{"intercept a --http-method=", "empty"},
		{"intercept a --http-method GET,", "no method"},
		{"intercept a --http-method ge/t", "no method"},
		{"intercept a --http-path /a?b=1", "no query"},
		{"intercept a --http-header=", "no name"},
		{"intercept a -o wide", "json"},
		{"leave", "workload"},
		{"leave a b", "workload"},
		{"leave a --all", "exclude"},
		{"list a", "a"},
		{"list -o table", "wide"},
		{"status a", "a"},
		{"status -o table", "wide"},
		{"quit a", "a"},
		{"clean a b", "workload"},
		{"clean --timeout 0s", "--timeout"},
		{"logs a", "a"},
		{"version a", "a"},
		{"version -o wide", "yaml"},
	} {
		t.Run(test.args, func(t *testing.T) {
			code, stdout, stderr := run(t, strings.Fields(test.args)...)
			if code != 2 || stdout != "" {
				t.Errorf("exit code %d, stdout %q", code, stdout)
			}
			checkError(t, stderr)
			if !strings.Contains(stderr, test.says) {
				t.Errorf("does not say %q: %s", test.says, stderr)
			}
		})
	}
}

// checkError wants one fact and a hint.
func checkError(t *testing.T, stderr string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	if len(lines) < 2 || !strings.HasPrefix(lines[0], "error: ") {
		t.Errorf("not one fact and a hint: %q", stderr)
		return
	}
	for _, line := range lines[1:] {
		if !strings.HasPrefix(line, "hint: ") {
			t.Errorf("not a hint: %q", line)
		}
	}
}

func TestFailures(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("clusters: [}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ args, says string }{
		{"connect", "no cluster is configured"},
		{"intercept a", "no cluster is configured"},
		{"list", "no cluster is configured"},
		{"clean", "no cluster is configured"},
		{"logs", "no cluster is configured"},
		{"list --kubeconfig /nonexistent/config", "/nonexistent/config"},
		{"list --kubeconfig " + broken, broken},
		{"list --context nosuch", "nosuch"},
		{"leave a", "no session is running"},
	} {
		t.Run(test.args, func(t *testing.T) {
			code, stdout, stderr := run(t, strings.Fields(test.args)...)
			if code != 1 || stdout != "" {
				t.Errorf("exit code %d, stdout %q", code, stdout)
			}
			checkError(t, stderr)
			if !strings.Contains(stderr, test.says) {
				t.Errorf("does not say %q: %s", test.says, stderr)
			}
		})
	}
}

func TestNothingRuns(t *testing.T) {
	for _, args := range []string{"quit", "quit --all", "quit --force", "status"} {
		code, stdout, _ := run(t, strings.Fields(args)...)
		if code != 0 || stdout != "" {
			t.Errorf("%s: exit code %d, stdout %q", args, code, stdout)
		}
	}
	if code, stdout, _ := run(t, "status", "-o", "json"); code != 0 || strings.Join(strings.Fields(stdout), "") != `{"sessions":[]}` {
		t.Errorf("status -o json: exit code %d, %s", code, stdout)
	}
}

func TestVersion(t *testing.T) {
	code, plain, _ := run(t, "version")
	if code != 0 || !strings.HasPrefix(plain, "kubectl tele ") || !strings.Contains(plain, "agent image ") {
		t.Errorf("exit code %d: %s", code, plain)
	}
	for format, decode := range map[string]func([]byte, any) error{
		"json": json.Unmarshal,
		"yaml": func(b []byte, v any) error { return yaml.UnmarshalStrict(b, v) },
	} {
		var got map[string]any
		code, out, _ := run(t, "version", "-o", format)
		if err := decode([]byte(out), &got); code != 0 || err != nil {
			t.Errorf("-o %s: exit code %d, %v: %s", format, code, err, out)
		}
		for _, key := range []string{"version", "commit", "goVersion", "agentImage"} {
			if got[key] == nil {
				t.Errorf("-o %s has no %s: %s", format, key, out)
			}
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"help"}, {"help", "intercept"}, {"intercept", "--help"}} {
		code, stdout, stderr := run(t, args...)
		if code != 0 || stderr != "" || !strings.Contains(stdout, "kubectl tele") {
			t.Errorf("%v: exit code %d: %s%s", args, code, stdout, stderr)
		}
		if strings.Contains(stdout, "__") || strings.Contains(stdout, "kubectl-tele ") {
			t.Errorf("%v shows what is not for people: %s", args, stdout)
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, out, _ := run(t, "completion", shell); code != 0 || len(out) < 1000 {
			t.Errorf("completion %s: exit code %d, %d bytes", shell, code, len(out))
		}
	}
	for _, test := range []struct {
		args []string
		want []string
		not  string
	}{
		{[]string{""}, []string{"connect", "intercept", "leave", "list", "status", "quit", "clean", "version"}, "__"},
		{[]string{"co"}, []string{"connect", "completion"}, "intercept"},
		{[]string{"list", "-o", ""}, []string{"json", "yaml", "wide", "name"}, "table"},
		{[]string{"version", "-o", ""}, []string{"json", "yaml"}, "wide"},
		{[]string{"intercept", "--al"}, []string{"--allow-restart"}, "--port"},
		{[]string{"intercept", ""}, []string{":1"}, "panic"}, // no cluster: nothing to offer
		{[]string{"leave", ""}, []string{":1"}, "panic"},
	} {
		_, out, _ := run(t, append([]string{"__complete"}, test.args...)...)
		for _, want := range test.want {
			if !slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool {
				word, _, _ := strings.Cut(line, "\t")
				return word == want
			}) {
				t.Errorf("completion of %q offers no %s:\n%s", test.args, want, out)
			}
		}
		if strings.Contains(out, test.not) {
			t.Errorf("completion of %q offers %s:\n%s", test.args, test.not, out)
		}
	}
}

// The background session must be for the same place as the command that
// started it.
func TestConfigArgs(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"connect", ""},
		{"connect -n other --timeout 3s", "--namespace=other"},
		{"-n other connect", "--namespace=other"},
		{"connect --context c --kubeconfig /k --as u --as-group g --as-group h", "--as=u --as-group=g,h --context=c --kubeconfig=/k"},
		{"intercept a --insecure-skip-tls-verify --port 80", "--insecure-skip-tls-verify=true"},
	} {
		streams, _, _, _ := genericiooptions.NewTestIOStreams()
		root := NewCommand(streams)
		cmd, rest, err := root.Find(strings.Fields(test.args))
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err != nil {
			t.Fatal(err)
		}
		got := (&factory{}).configArgs(cmd)
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %q, not %q", test.args, got, test.want)
		}
		if _, _, err := root.Find(append([]string{sessionCommand}, got...)); err != nil {
			t.Errorf("%s: the session does not understand %q: %v", test.args, got, err)
		}
	}
}

const kubeconfig = `apiVersion: v1
kind: Config
current-context: one
clusters:
- {name: c, cluster: {server: "https://192.0.2.1:6443"}}
- {name: d, cluster: {server: "https://192.0.2.2:6443"}}
users:
- {name: alice, user: {token: secret}}
- {name: bob, user: {token: secret}}
contexts:
- {name: one, context: {cluster: c, user: alice, namespace: shop}}
- {name: two, context: {cluster: d, user: bob}}
`

func TestPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for args, want := range map[string]string{
		"":                             "one shop https://192.0.2.1:6443 alice",
		"-n other":                     "one other https://192.0.2.1:6443 alice",
		"--context two":                "two default https://192.0.2.2:6443 bob",
		"--user bob":                   "one shop https://192.0.2.1:6443 bob",
		"--cluster d":                  "one shop https://192.0.2.2:6443 alice",
		"--as carol":                   "one shop https://192.0.2.1:6443 carol",
		"--server https://192.0.2.3":   "one shop https://192.0.2.3 alice",
		"--context two -n shop --as x": "two shop https://192.0.2.2:6443 x",
	} {
		flags := genericclioptions.NewConfigFlags(true)
		streams, _, _, _ := genericiooptions.NewTestIOStreams()
		cmd := newStatusCommand(newFactory(flags, streams))
		flags.AddFlags(cmd.Flags())
		if err := cmd.ParseFlags(append(strings.Fields(args), "--kubeconfig", path)); err != nil {
			t.Fatal(err)
		}
		p, err := newFactory(flags, streams).place()
		if err != nil {
			t.Errorf("%q: %v", args, err)
			continue
		}
		if got := strings.Join([]string{p.Context, p.Namespace, p.Server, p.User}, " "); got != want {
			t.Errorf("%q is %q, not %q", args, got, want)
		}
		if other, taken := ids[p.ID()]; taken {
			t.Errorf("%q and %q are one session", args, other)
		}
		ids[p.ID()] = args
	}
}

func TestParsePort(t *testing.T) {
	for flag, want := range map[string][2]string{
		"": {"", ""}, "8080": {"8080", ""}, "8080:80": {"8080", "80"}, "8080:http": {"8080", "http"},
		":http": {"", "http"}, "http": {"", "http"}, ":80": {"", "80"},
		"web:http": {"", "web:http"}, "8080:web:http": {"8080", "web:http"}, "web-2:80": {"", "web-2:80"},
	} {
		local, port, err := parsePort(flag)
		if err != nil || local != want[0] || port != want[1] {
			t.Errorf("%q is %q, %q, %v", flag, local, port, err)
		}
	}
}

func TestPrintError(t *testing.T) {
	inner := hint.With(errors.New("inner"), "first", "second")
	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.New("plain"), "error: plain\n"},
		{fmt.Errorf("outer: %w", inner), "error: outer: inner\nhint: first\nhint: second\n"},
		{usageError(inner, "zeroth"), "error: inner\nhint: zeroth\nhint: first\nhint: second\n"},
	} {
		var b bytes.Buffer
		printError(&b, test.err)
		if b.String() != test.want {
			t.Errorf("%v is printed as %q, not %q", test.err, b.String(), test.want)
		}
	}
}
