// Package agentimage builds the agent and packs its image, for every platform
// a node may have.
package agentimage

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/kubectl-tele/kubectl-tele/internal/image"
	"github.com/kubectl-tele/kubectl-tele/internal/release/gobuild"
	"github.com/kubectl-tele/kubectl-tele/pkg/version"
)

// User is who the agent runs as when its pod says nothing else.
const User = "65532:65532"

const binary = "/tele-agent"

// Platforms are those of the released image.
func Platforms() []string { return []string{"linux/amd64", "linux/arm64"} }

// Name is the image's name at a version.
func Name(v string) string {
	return strings.TrimSuffix(version.AgentImage(), version.Version) + v
}

// Options say what is built.
type Options struct {
	Dir     string // the module's folder
	Package string // the agent's main package; empty is ./cmd/tele-agent
	Name    string // the image's name; empty is Name(Version)
	Version string
	Commit  string
}

func (o Options) name() string {
	if o.Name != "" {
		return o.Name
	}
	return Name(o.Version)
}

// Build builds the agent for one platform and packs it.
func (o Options) Build(ctx context.Context, platform string) (v1.Image, error) {
	dir, err := os.MkdirTemp("", "tele-agent-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	built := filepath.Join(dir, "tele-agent")
	target := gobuild.Target{
		Dir: o.Dir, Package: o.Package, Output: built,
		Platform: platform, Version: o.Version, Commit: o.Commit,
	}
	if target.Package == "" {
		target.Package = "./cmd/tele-agent"
	}
	if err := gobuild.Build(ctx, target); err != nil {
		return nil, err
	}
	labels := map[string]string{
		"org.opencontainers.image.title":    "tele-agent",
		"org.opencontainers.image.source":   "https://github.com/kubectl-tele/kubectl-tele",
		"org.opencontainers.image.licenses": "Apache-2.0",
		"org.opencontainers.image.version":  o.Version,
	}
	if o.Commit != "" {
		labels["org.opencontainers.image.revision"] = o.Commit
	}
	return image.Pack(image.Spec{
		Name:       o.name(),
		Platform:   platform,
		Entrypoint: []string{binary},
		User:       User,
		Labels:     labels,
		Files:      []image.File{{Path: binary, Source: built}},
	})
}

// BuildIndex builds the agent for several platforms.
func (o Options) BuildIndex(ctx context.Context, platforms []string) (v1.ImageIndex, error) {
	var images []v1.Image
	for _, p := range platforms {
		img, err := o.Build(ctx, p)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	return image.Index(images...)
}

// WriteDocker writes a docker archive of one platform, for a node's containerd.
func (o Options) WriteDocker(ctx context.Context, w io.Writer, platform string) error {
	img, err := o.Build(ctx, platform)
	if err != nil {
		return err
	}
	return image.WriteDocker(w, o.name(), img)
}

// Push uploads the index to the registry its name says, with the credentials
// of the docker configuration.
func (o Options) Push(ctx context.Context, index v1.ImageIndex) error {
	tag, err := name.NewTag(o.name(), name.StrictValidation)
	if err != nil {
		return fmt.Errorf("image name %q: %w", o.name(), err)
	}
	if err := remote.WriteIndex(tag, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return fmt.Errorf("push %s: %w", tag, err)
	}
	return nil
}
