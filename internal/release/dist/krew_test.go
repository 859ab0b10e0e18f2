package dist

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The archive of this machine's platform, installed by the real krew from the
// real manifest, is a plugin that kubectl finds.
func TestKrewInstallsThePlugin(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the plugin, krew and perhaps kubectl")
	}
	root := filepath.Join("..", "..", "..")
	o := Options{
		Dir: root, Package: "./cmd/kubectl-tele", License: filepath.Join(root, "LICENSE"), Template: templatePath,
		Output: t.TempDir(), Version: "v1.2.3-test.1", Commit: "0123456789abcdef",
	}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	archive, err := o.Archive(t.Context(), platform)
	if err != nil {
		t.Fatal(err)
	}
	sums := testSums() // the other platforms' archives are not looked at
	if sums[ArchiveName(platform)], err = fileSum(archive); err != nil {
		t.Fatal(err)
	}
	manifest, err := Manifest([]byte(testTemplate(t)), o.Version, sums)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.write("tele.yaml", manifest); err != nil {
		t.Fatal(err)
	}
	manifestPath := filepath.Join(o.Output, "tele.yaml")

	tools := t.TempDir()
	krew := buildTool(t, tools, "krew", "sigs.k8s.io/krew/cmd/krew")
	validator := buildTool(t, tools, "krew", "sigs.k8s.io/krew/cmd/validate-krew-manifest")
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Log("no kubectl in PATH: building one")
		kubectl = buildTool(t, tools, "kubectl", "github.com/kubectl-tele/kubectl-tele/tools/kubectl")
	}

	home := t.TempDir()
	env := append(os.Environ(),
		"KREW_ROOT="+home, "KREW_NO_UPGRADE_CHECK=1", "HOME="+home,
		"PATH="+filepath.Join(home, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	command(t, env, validator, "-manifest", manifestPath, "-skip-install")
	command(t, env, krew, "install", "--manifest", manifestPath, "--archive", archive)
	out := command(t, env, kubectl, "tele", "version")
	for _, want := range []string{o.Version, o.Commit} {
		if !strings.Contains(out, want) {
			t.Errorf("kubectl tele version says %q, want %q in it", out, want)
		}
	}
}

// buildTool builds a command of a module below tools/.
func buildTool(t *testing.T, to, module, pkg string) string {
	t.Helper()
	path := filepath.Join(to, filepath.Base(pkg))
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	dir := filepath.Join("..", "..", "..", "tools", module)
	command(t, append(os.Environ(), "CGO_ENABLED=0"), "go", "build", "-C", dir, "-o", path, pkg)
	return path
}

func command(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}
