//go:build linux

package files

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// TestDialSocket: a socket answers, however long its path; nothing else and nothing outside
// is connected to.
func TestDialSocket(t *testing.T) {
	dir, deep := t.TempDir(), "/"+strings.Repeat("long/", 40)
	if err := os.MkdirAll(dir+"/v"+deep, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir + "/v" + deep)
	listenAt := func(name string) {
		l, err := net.Listen("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, "hello")
				_ = conn.Close()
			}
		}()
	}
	listenAt("sock")
	t.Chdir(dir)
	listenAt("outside")
	write(t, dir+"/v/file", "no socket")
	link(t, "../outside", dir+"/v/out")
	volumes := []api.Volume{{Here: dir + "/v", Path: "/run/app"}}
	conn, err := DialSocket(t.Context(), volumes, "/run/app"+deep+"sock")
	if err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(conn); err != nil || string(said) != "hello" {
		t.Errorf("it says %q, %v", said, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"/run/app/file", "/run/app/out", "/run/app/../outside", "/outside", "/run/app/absent", "/run/app", ""} {
		if conn, err := DialSocket(t.Context(), volumes, name); err == nil {
			t.Errorf("%s: connected", name)
			_ = conn.Close()
		}
	}
}
