package gobuild

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCommand(t *testing.T) {
	args, env, err := Target{Package: "./cmd/x", Output: "bin/x", Platform: "linux/arm64", Version: "v1.2.3", Commit: "abc"}.command()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64"}; !slices.Equal(env, want) {
		t.Errorf("env = %q, want %q", env, want)
	}
	want := "build -trimpath -buildvcs=false -ldflags -s -w -buildid=" +
		" -X github.com/kubectl-tele/kubectl-tele/pkg/version.Version=v1.2.3" +
		" -X github.com/kubectl-tele/kubectl-tele/pkg/version.Commit=abc -o bin/x ./cmd/x"
	if got := strings.Join(args, " "); got != want {
		t.Errorf("args = %s, want %s", got, want)
	}
	for _, bad := range []Target{{Platform: "linux"}, {Platform: "/arm64"}, {Version: "v1 -X main.x=y"}, {Commit: "a'b"}} {
		if _, _, err := bad.command(); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

// The folder a program is built in leaves no trace in it.
func TestBuildIsReproducible(t *testing.T) {
	var first []byte
	for range 2 {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "go.mod"), "module stub\n\ngo 1.26\n")
		write(t, filepath.Join(dir, "main.go"), "package main\n\nfunc main() { println(\"stub\") }\n")
		binary := filepath.Join(dir, "stub.exe")
		if err := Build(t.Context(), Target{Dir: dir, Package: ".", Output: binary, Version: "v1.0.0"}); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), binary).CombinedOutput(); err != nil || string(out) != "stub\n" {
			t.Errorf("it says %q, %v", out, err)
		}
		got, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, got) {
			t.Error("two builds differ")
		}
		first = got
	}
}

func TestBuildTellsWhatTheCompilerSays(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), "module stub\n\ngo 1.26\n")
	write(t, filepath.Join(dir, "main.go"), "package main\n\nfunc main() { undefinedName() }\n")
	err := Build(t.Context(), Target{Dir: dir, Package: ".", Output: filepath.Join(dir, "stub")})
	if err == nil || !strings.Contains(err.Error(), "undefinedName") {
		t.Errorf("error = %v", err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
