package embedded

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestPartHash(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := part{inputs: []string{"*.go", "go.mod"}}
	hash := func(version string) string {
		t.Helper()
		h, err := p.hash(dir, version)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if _, err := p.hash(dir, "go1"); err == nil {
		t.Error("an empty folder has a hash")
	}
	write("main.go", "package main")
	first := hash("go1")
	write("main_test.go", "package main")
	write("README", "read")
	if hash("go1") != first {
		t.Error("tests or other files change the hash")
	}
	if hash("go2") == first {
		t.Error("the Go version does not change the hash")
	}
	write("go.mod", "module x")
	if hash("go1") == first {
		t.Error("an input does not change the hash")
	}
}

func TestWriteImage(t *testing.T) {
	dir := t.TempDir()
	binary, file := filepath.Join(dir, "b"), filepath.Join(dir, "i.tar")
	if err := os.WriteFile(binary, []byte("#!"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeImage(file, "localhost/x:1", binary, "/x", "serve"); err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(config.Config.Entrypoint, []string{"/x", "serve"}) || config.OS != "linux" || len(config.RootFS.DiffIDs) != 1 {
		t.Errorf("configuration %+v", config)
	}
	if err := writeImage(file, "NOT A NAME", binary, "/x"); err == nil {
		t.Error("an image of a name that is none")
	}
}
