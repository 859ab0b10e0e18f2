// Package dist packs the plugin for its users: one archive a platform, the
// krew manifest that names them all with their sums, and a list of the sums.
// The same sources give the same bytes.
package dist

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kubectl-tele/kubectl-tele/internal/image"
	"github.com/kubectl-tele/kubectl-tele/internal/release/gobuild"
)

// Platforms are those a release is packed for.
func Platforms() []string {
	return []string{
		"linux/amd64", "linux/arm64",
		"darwin/amd64", "darwin/arm64",
		"windows/amd64", "windows/arm64",
	}
}

// Options say what is packed. All fields but Log are needed.
type Options struct {
	Dir      string // the module's folder
	Package  string // the plugin's main package, from Dir
	License  string // path of the licence
	Template string // path of the manifest's template
	Output   string // folder to write to
	Version  string // vX.Y.Z, may have a pre-release
	Commit   string
	Log      io.Writer // a line for each file; nil is silent
}

// Build packs every platform and writes the manifest tele.yaml and SHA256SUMS.
func Build(ctx context.Context, o Options) error {
	if err := checkVersion(o.Version); err != nil {
		return err
	}
	template, err := os.ReadFile(o.Template)
	if err != nil {
		return fmt.Errorf("read manifest template: %w", err)
	}
	sums := map[string]string{}
	var list strings.Builder
	for _, platform := range Platforms() {
		path, err := o.Archive(ctx, platform)
		if err != nil {
			return err
		}
		sum, err := fileSum(path)
		if err != nil {
			return err
		}
		name := filepath.Base(path)
		sums[name] = sum
		fmt.Fprintf(&list, "%s  %s\n", sum, name)
	}
	manifest, err := Manifest(template, o.Version, sums)
	if err != nil {
		return fmt.Errorf("manifest template %s: %w", o.Template, err)
	}
	if err := o.write("tele.yaml", manifest); err != nil {
		return err
	}
	return o.write("SHA256SUMS", []byte(list.String()))
}

// Archive builds and packs one platform and returns the archive's path.
func (o Options) Archive(ctx context.Context, platform string) (string, error) {
	goos, _, _ := strings.Cut(platform, "/")
	dir, err := os.MkdirTemp("", "tele-dist-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, binaryName(goos))
	err = gobuild.Build(ctx, gobuild.Target{
		Dir: o.Dir, Package: o.Package, Output: binary,
		Platform: platform, Version: o.Version, Commit: o.Commit,
	})
	if err != nil {
		return "", err
	}
	files := []entry{
		{name: "LICENSE", source: o.License, mode: 0o644},
		{name: binaryName(goos), source: binary, mode: 0o755},
	}
	path := filepath.Join(o.Output, ArchiveName(platform))
	pack := writeTarGz
	if strings.HasSuffix(path, ".zip") {
		pack = writeZip
	}
	if err := image.ToFile(path, func(w io.Writer) error { return pack(w, files) }); err != nil {
		return "", fmt.Errorf("pack %s: %w", path, err)
	}
	o.logf("%s\n", path)
	return path, nil
}

// ArchiveName is the file name of a platform's archive.
func ArchiveName(platform string) string {
	goos, arch, _ := strings.Cut(platform, "/")
	extension := "tar.gz"
	if goos == "windows" {
		extension = "zip"
	}
	return fmt.Sprintf("kubectl-tele_%s_%s.%s", goos, arch, extension)
}

func binaryName(goos string) string {
	if goos == "windows" {
		return "kubectl-tele.exe"
	}
	return "kubectl-tele"
}

func (o Options) write(name string, data []byte) error {
	path := filepath.Join(o.Output, name)
	err := image.ToFile(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	o.logf("%s\n", path)
	return nil
}

func (o Options) logf(format string, args ...any) {
	if o.Log != nil {
		_, _ = fmt.Fprintf(o.Log, format, args...)
	}
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
