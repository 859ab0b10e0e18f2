// Package gobuild runs `go build` for one static, reproducible binary. It
// owns the flags that make it so; what becomes of the binary is its callers'.
package gobuild

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// versionPackage holds the variables that the linker sets.
const versionPackage = "github.com/kubectl-tele/kubectl-tele/pkg/version"

// Target says what to build and where to.
type Target struct {
	Dir      string // folder to build in; empty is the current one
	Package  string // import path or ./path
	Output   string // the binary's path
	Platform string // OS/ARCH; empty is this machine's
	Version  string // pkg/version.Version; empty keeps its default
	Commit   string // pkg/version.Commit; empty keeps its default
}

// Build builds t. The same sources and toolchain give the same bytes,
// wherever they lie.
func Build(ctx context.Context, t Target) error {
	args, env, err := t.command()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = t.Dir
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s for %s: %w\n%s", t.Package, t.Platform, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

func (t Target) command() (args, env []string, err error) {
	env = []string{"CGO_ENABLED=0"}
	if t.Platform != "" {
		goos, arch, ok := strings.Cut(t.Platform, "/")
		if !ok || goos == "" || arch == "" {
			return nil, nil, fmt.Errorf("platform %q: want OS/ARCH", t.Platform)
		}
		env = append(env, "GOOS="+goos, "GOARCH="+arch)
	}
	flags := []string{"-s", "-w", "-buildid="}
	for name, value := range map[string]string{"Version": t.Version, "Commit": t.Commit} {
		if strings.ContainsAny(value, " '\"") {
			return nil, nil, fmt.Errorf("%s %q: blanks and quotes cannot be linked in", name, value)
		}
	}
	if t.Version != "" {
		flags = append(flags, "-X", versionPackage+".Version="+t.Version)
	}
	if t.Commit != "" {
		flags = append(flags, "-X", versionPackage+".Commit="+t.Commit)
	}
	// -buildvcs: the commit is linked in where it is wanted; a dirty tree must not change the bytes.
	args = []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", strings.Join(flags, " "), "-o", t.Output, t.Package}
	return args, env, nil
}
