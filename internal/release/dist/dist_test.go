package dist

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// stub is a plugin that builds in no time on every platform.
func stub(t *testing.T) Options {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":  "module stub\n\ngo 1.26\n",
		"main.go": "package main\n\nfunc main() { println(\"stub\") }\n",
		"LICENSE": "do what you like\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Options{
		Dir: dir, Package: ".", License: filepath.Join(dir, "LICENSE"), Template: templatePath,
		Output: filepath.Join(dir, "dist"), Version: "v1.2.3", Commit: "abc",
	}
}

func TestBuildTwiceGivesTheSameBytes(t *testing.T) {
	var outputs []map[string][]byte
	for range 2 {
		o := stub(t)
		if err := Build(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		files := map[string][]byte{}
		entries, err := os.ReadDir(o.Output)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if files[e.Name()], err = os.ReadFile(filepath.Join(o.Output, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
		outputs = append(outputs, files)
	}
	if len(outputs[0]) != len(Platforms())+2 {
		t.Errorf("%d files, want an archive a platform, tele.yaml and SHA256SUMS", len(outputs[0]))
	}
	for name, content := range outputs[0] {
		if !bytes.Equal(content, outputs[1][name]) {
			t.Errorf("%s differs between two builds", name)
		}
	}
	for _, p := range Platforms() {
		name := ArchiveName(p)
		binary := "kubectl-tele"
		if strings.HasPrefix(p, "windows/") {
			binary += ".exe"
		}
		want := []string{"-rw-r--r-- LICENSE", "-rwxr-xr-x " + binary}
		if got := list(t, name, outputs[0][name]); !slices.Equal(got, want) {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
}

func list(t *testing.T, name string, archive []byte) []string {
	t.Helper()
	var files []string
	if strings.HasSuffix(name, ".zip") {
		zr, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, f := range zr.File {
			files = append(files, fmt.Sprintf("%s %s", f.Mode(), f.Name))
		}
		return files
	}
	gz, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for tr := tar.NewReader(gz); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		files = append(files, fmt.Sprintf("%s %s", h.FileInfo().Mode(), h.Name))
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"version":  func(o *Options) { o.Version = "1" },
		"template": func(o *Options) { o.Template = "nowhere.yaml" },
		"licence":  func(o *Options) { o.License = "nowhere" },
		"package":  func(o *Options) { o.Package = "./nowhere" },
	} {
		o := stub(t)
		change(&o)
		if err := Build(t.Context(), o); err == nil {
			t.Errorf("bad %s: no error", name)
		}
		if _, err := os.Stat(filepath.Join(o.Output, "tele.yaml")); err == nil {
			t.Errorf("bad %s: a manifest was written", name)
		}
	}
}
