package agentimage

import (
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// stub is an agent that builds in no time.
func stub(t *testing.T) Options {
	t.Helper()
	dir := t.TempDir()
	for file, content := range map[string]string{
		"go.mod":  "module stub\n\ngo 1.26\n",
		"main.go": "package main\n\nfunc main() { println(\"stub\") }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Options{Dir: dir, Package: ".", Version: "v1.2.3", Commit: "abc"}
}

func TestName(t *testing.T) {
	if got := Name("v1.2.3"); got != "ghcr.io/kubectl-tele/tele-agent:v1.2.3" {
		t.Errorf("name = %s", got)
	}
}

func TestWriteDocker(t *testing.T) {
	var b bytes.Buffer
	if err := stub(t).WriteDocker(t.Context(), &b, "linux/arm64"); err != nil {
		t.Fatal(err)
	}
	opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
	manifest, err := tarball.LoadManifest(opener)
	if err != nil {
		t.Fatal(err)
	}
	if got := manifest[0].RepoTags; !slices.Equal(got, []string{Name("v1.2.3")}) {
		t.Errorf("tags = %q", got)
	}
	img, err := tarball.Image(opener, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := config.Config
	if config.Platform().String() != "linux/arm64" || c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/tele-agent"}) {
		t.Errorf("platform %s, user %s, entrypoint %q", config.Platform(), c.User, c.Entrypoint)
	}
	if c.Labels["org.opencontainers.image.version"] != "v1.2.3" || c.Labels["org.opencontainers.image.revision"] != "abc" {
		t.Errorf("labels = %q", c.Labels)
	}
}

// The pushed index has an image for every platform, and is the same twice.
func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	var digests []string
	for range 2 {
		o := stub(t)
		o.Name = strings.TrimPrefix(server.URL, "http://") + "/team/agent:v1.2.3"
		index, err := o.BuildIndex(t.Context(), Platforms())
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Push(t.Context(), index); err != nil {
			t.Fatal(err)
		}
		tag, err := name.NewTag(o.Name)
		if err != nil {
			t.Fatal(err)
		}
		pulled, err := remote.Index(tag)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := pulled.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		var platforms []string
		for _, m := range manifest.Manifests {
			platforms = append(platforms, m.Platform.String())
		}
		if !slices.Equal(platforms, Platforms()) {
			t.Errorf("platforms = %q", platforms)
		}
		digest, err := pulled.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest.String())
	}
	if digests[0] != digests[1] {
		t.Errorf("two builds differ: %q", digests)
	}
}

func TestBuildRefuses(t *testing.T) {
	for what, change := range map[string]func(*Options){
		"package": func(o *Options) { o.Package = "./nowhere" },
		"name":    func(o *Options) { o.Name = "no-tag" },
		"version": func(o *Options) { o.Version = "v1+dirty" },
	} {
		o := stub(t)
		change(&o)
		if _, err := o.Build(t.Context(), "linux/amd64"); err == nil {
			t.Errorf("bad %s: no error", what)
		}
	}
	if _, err := stub(t).Build(t.Context(), "linux"); err == nil {
		t.Error("bad platform: no error")
	}
}
