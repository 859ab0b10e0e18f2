package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const testName = "registry.example/team/app:v1"

func testSpec() Spec {
	return Spec{
		Name:       testName,
		Platform:   "linux/arm64",
		Entrypoint: []string{"/usr/bin/app", "serve"},
		Env:        []string{"MODE=test"},
		User:       "65532",
		Files: []File{
			{Path: "/usr/bin/app", Data: []byte("binary")},
			{Path: "/etc/app.conf", Data: []byte{}, Mode: 0o644},
		},
		Links: []Link{{Path: "/bin/sh", Target: "/usr/bin/app"}},
	}
}

func TestPack(t *testing.T) {
	img, err := Pack(testSpec())
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Platform().String(); got != "linux/arm64" {
		t.Errorf("platform = %s", got)
	}
	want := v1.Config{Entrypoint: []string{"/usr/bin/app", "serve"}, Env: []string{"MODE=test"}, User: "65532"}
	if !reflect.DeepEqual(config.Config, want) {
		t.Errorf("config = %+v, want %+v", config.Config, want)
	}
	wantFiles := []string{
		"d bin 755 ", "l bin/sh 777 /usr/bin/app",
		"d etc 755 ", "f etc/app.conf 644 ",
		"d usr 755 ", "d usr/bin 755 ", "f usr/bin/app 755 binary",
	}
	content := mutate.Extract(img)
	defer func() { _ = content.Close() }()
	if got := entries(t, content); !slices.Equal(got, wantFiles) {
		t.Errorf("files = %q, want %q", got, wantFiles)
	}
}

// entries lists a tar: kind, name, mode, and the content or target.
func entries(t *testing.T, r io.Reader) []string {
	t.Helper()
	kinds := map[byte]string{tar.TypeReg: "f", tar.TypeDir: "d", tar.TypeSymlink: "l"}
	var all []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(epoch) {
			t.Errorf("%s has the time %s", h.Name, h.ModTime)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s %s %o %s%s", kinds[h.Typeflag], h.Name, h.Mode, content, h.Linkname))
	}
}

func TestPackReadsSource(t *testing.T) {
	spec := testSpec()
	spec.Files[0] = File{Path: "/usr/bin/app", Source: filepath.Join(t.TempDir(), "app")}
	if _, err := Pack(spec); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("missing source: %v", err)
	}
	if err := os.WriteFile(spec.Files[0].Source, []byte("binary"), 0o600); err != nil {
		t.Fatal(err)
	}
	fromFile, err := Pack(spec)
	if err != nil {
		t.Fatal(err)
	}
	fromData, err := Pack(testSpec())
	if err != nil {
		t.Fatal(err)
	}
	if a, b := digest(t, fromFile), digest(t, fromData); a != b {
		t.Errorf("digests differ: %s from a file, %s from data", a, b)
	}
}

func digest(t *testing.T, img v1.Image) v1.Hash {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPackRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Spec)
		want   string
	}{
		{"no tag", func(s *Spec) { s.Name = "registry.example/app" }, "image name"},
		{"bad tag", func(s *Spec) { s.Name = "registry.example/app:v1+dev" }, "image name"},
		{"no platform", func(s *Spec) { s.Platform = "" }, "want OS/ARCH"},
		{"half a platform", func(s *Spec) { s.Platform = "linux" }, "want OS/ARCH"},
		{"no files", func(s *Spec) { s.Files = nil }, "no files"},
		{"relative path", func(s *Spec) { s.Files[0].Path = "app" }, "clean absolute path"},
		{"unclean path", func(s *Spec) { s.Files[0].Path = "/usr/../app" }, "clean absolute path"},
		{"root", func(s *Spec) { s.Links[0].Path = "/" }, "clean absolute path"},
		{"twice", func(s *Spec) { s.Links[0].Path = "/usr/bin/app" }, "given twice"},
		{"below a file", func(s *Spec) { s.Links[0].Path = "/usr/bin/app/x" }, "not a directory"},
		{"link to nothing", func(s *Spec) { s.Links[0].Target = "" }, "no target"},
		{"env", func(s *Spec) { s.Env = []string{"MODE"} }, "NAME=value"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := testSpec()
			tt.change(&spec)
			if _, err := Pack(spec); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestWriteDocker(t *testing.T) {
	write := func() []byte {
		img, err := Pack(testSpec())
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := WriteDocker(&b, testName, img); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	first := write()
	if !bytes.Equal(first, write()) {
		t.Error("two archives of one spec differ")
	}
	opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(first)), nil }
	manifest, err := tarball.LoadManifest(opener)
	if err != nil {
		t.Fatal(err)
	}
	if got := manifest[0].RepoTags; !slices.Equal(got, []string{testName}) {
		t.Errorf("tags = %q", got)
	}
	img, err := tarball.Image(opener, nil)
	if err != nil {
		t.Fatal(err)
	}
	content := mutate.Extract(img)
	defer func() { _ = content.Close() }()
	if got := entries(t, content); len(got) != 7 {
		t.Errorf("read back: %q", got)
	}
}

func TestWriteOCI(t *testing.T) {
	write := func() []byte {
		var images []v1.Image
		for _, platform := range []string{"linux/amd64", "linux/arm64"} {
			spec := testSpec()
			spec.Platform = platform
			img, err := Pack(spec)
			if err != nil {
				t.Fatal(err)
			}
			images = append(images, img)
		}
		index, err := Index(images...)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := WriteOCI(&b, testName, index); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	first := write()
	if !bytes.Equal(first, write()) {
		t.Error("two archives of one index differ")
	}
	files := map[string][]byte{}
	for tr := tar.NewReader(bytes.NewReader(first)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := files[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
	if string(files["oci-layout"]) != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout = %s", files["oci-layout"])
	}
	top := parseIndex(t, files["index.json"])
	if len(top.Manifests) != 1 {
		t.Fatalf("index.json names %d manifests, want 1", len(top.Manifests))
	}
	wantNames := map[string]string{"io.containerd.image.name": testName, "org.opencontainers.image.ref.name": "v1"}
	if got := top.Manifests[0].Annotations; !maps.Equal(got, wantNames) {
		t.Errorf("annotations = %q, want %q", got, wantNames)
	}
	blob := func(d v1.Descriptor) []byte {
		data := files["blobs/sha256/"+d.Digest.Hex]
		if hash, n, _ := v1.SHA256(bytes.NewReader(data)); hash != d.Digest || n != d.Size {
			t.Errorf("blob %s: is %s with %d bytes, want %d", d.Digest, hash, n, d.Size)
		}
		return data
	}
	var platforms []string
	for _, d := range parseIndex(t, blob(top.Manifests[0])).Manifests {
		platforms = append(platforms, d.Platform.String())
		m, err := v1.ParseManifest(bytes.NewReader(blob(d)))
		if err != nil {
			t.Fatal(err)
		}
		blob(m.Config)
		blob(m.Layers[0])
	}
	if !slices.Equal(platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("platforms = %q", platforms)
	}
}

func parseIndex(t *testing.T, data []byte) v1.IndexManifest {
	t.Helper()
	var m v1.IndexManifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatalf("index: %v", err)
	}
	return m
}

func TestToFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dist", "x.tar")
	failure := errors.New("disk full")
	err := ToFile(path, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("error = %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("a failed write left %v", left)
	}
	if err := ToFile(path, func(w io.Writer) error { _, err := io.WriteString(w, "whole"); return err }); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "whole" {
		t.Errorf("content = %q", got)
	}
}
