//go:build h2spec

package agent

import (
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// TestConformance: what h2spec finds an app to conform with, it finds through an agent
// too that looks into its connections. `make h2spec` runs it.
func TestConformance(t *testing.T) {
	tool := os.Getenv("TELE_TEST_H2SPEC")
	if tool == "" {
		t.Fatal("TELE_TEST_H2SPEC names no h2spec")
	}
	l, err := net.Listen("tcp", hostPort(podIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "the answer of an app")
		}),
	}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	port := portOf(l.Addr())
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
	mustRegister(t, a.connect(t, "s"), requestsOf("i", "alice", port))

	direct, through := conformance(t, tool, podIP.String(), port), conformance(t, tool, "127.0.0.1", a.CapturePorts()[0])
	if len(direct) < 100 || len(through) != len(direct) {
		t.Fatalf("%d cases of the app, %d through the agent", len(direct), len(through))
	}
	for name, complaint := range through {
		if complaint != "" && direct[name] == "" {
			t.Errorf("%s: %s", name, complaint)
		} else if direct[name] != "" {
			t.Logf("%s: the app itself: %.100s; through: %.100s", name, direct[name], complaint)
		}
	}
}

// conformance runs h2spec and returns what it complains of for each of its cases.
func conformance(t *testing.T, tool, host string, port uint16) map[string]string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.xml")
	out, err := exec.Command(tool, "--host="+host, "--port="+strconv.Itoa(int(port)), "--timeout=2", "--junit-report="+file).CombinedOutput()
	report, readErr := os.ReadFile(file)
	if readErr != nil {
		t.Fatalf("%v: %v\n%s", readErr, err, out)
	}
	var parsed struct {
		Suites []struct {
			ID    string `xml:"id,attr"`
			Cases []struct {
				Package string `xml:"package,attr"`
				Name    string `xml:"classname,attr"`
				Failure string `xml:"failure"`
				Error   string `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(report, &parsed); err != nil {
		t.Fatal(err)
	}
	complaints := map[string]string{}
	for _, suite := range parsed.Suites {
		for _, c := range suite.Cases {
			complaints[fmt.Sprintf("%s: %s", c.Package, c.Name)] = c.Failure + c.Error
		}
	}
	return complaints
}
