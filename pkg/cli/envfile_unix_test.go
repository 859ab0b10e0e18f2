//go:build unix

package cli

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/environ"
)

// An environment goes to where a link leads, and to a pipe that somebody reads, neither of
// which is replaced.
func TestEnvFileOfOtherKinds(t *testing.T) {
	all := []environ.Variable{{Name: "A", Value: "b"}}
	dir := t.TempDir()
	write := func(name string) {
		t.Helper()
		if _, err := (envFile{filepath.Join(dir, name), environ.Docker}).write(all); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/real", []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	write("link")
	if text, err := os.ReadFile(dir + "/real"); err != nil || string(text) != "A=b\n" {
		t.Errorf("through a link: %q, %v", text, err)
	}
	if to, err := os.Readlink(dir + "/link"); err != nil || to != "real" {
		t.Errorf("the link leads to %q, %v", to, err)
	}

	if err := syscall.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan string)
	go func() {
		text, _ := os.ReadFile(dir + "/pipe")
		read <- string(text)
	}()
	write("pipe")
	if got := <-read; got != "A=b\n" {
		t.Errorf("through a pipe: %q", got)
	}
	if info, err := os.Lstat(dir + "/pipe"); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("the pipe is %v, %v", info, err)
	}
}
