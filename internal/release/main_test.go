package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestVersionFromGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git")
	}
	for _, v := range []string{"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"} {
		t.Setenv(v, os.DevNull)
	}
	t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(os.TempDir()))
	dir := t.TempDir()
	r := repository{dir: dir}
	git := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	expect := func(want string) {
		t.Helper()
		if got := r.version(t.Context()); got != want {
			t.Errorf("version = %q, want %q", got, want)
		}
	}
	expect("v0.1.0-dev")
	if got := r.commit(t.Context()); got != "" {
		t.Errorf("commit without git = %q", got)
	}
	git("init", "-q")
	expect("v0.1.0-dev")
	git("commit", "-q", "--allow-empty", "-m", "first")
	commit := r.commit(t.Context())
	if len(commit) != 40 {
		t.Fatalf("commit = %q", commit)
	}
	expect("v0.1.0-dev.g" + commit[:10])
	git("tag", "v1.2.3")
	expect("v1.2.3")
	git("commit", "-q", "--allow-empty", "-m", "second")
	if got := r.version(t.Context()); !strings.HasPrefix(got, "v1.2.3-1-g") {
		t.Errorf("version after the tag = %q", got)
	}
}

// The Makefile and this command give one tree one version.
func TestMakefileSaysTheSameVersion(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("no make")
	}
	cmd := exec.CommandContext(t.Context(), "make", "-s", "-C", "../..", "--no-print-directory", "version")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { // what `make test VERSION=x` hands down
		return strings.HasPrefix(e, "VERSION=") || strings.HasPrefix(e, "MAKE") || strings.HasPrefix(e, "MFLAGS=")
	})
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := repository{dir: "../.."}.version(t.Context())
	if got := strings.TrimSpace(string(out)); got != want {
		t.Errorf("the Makefile says %q, release %q", got, want)
	}
}

func TestRunRefuses(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"dance"},
		{"dist", "-x"},
		{"image", "-x"},
		{"image", "-format", "zip"},
		{"image", "-format", "docker"},
		{"image", "-format", "docker", "-platform", "linux/amd64", "-push"},
	} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
