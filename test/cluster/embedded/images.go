package embedded

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// The images the cluster needs for itself. Their names lead to no registry.
const (
	pauseImage   = "localhost/pause:1"
	corednsImage = "localhost/coredns:1"
)

// writeImage packs one static binary as a docker-archive whose entry point is
// the binary at path, with args.
func writeImage(file, ref, binary, path string, args ...string) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	layer, err := binaryLayer(binary, path)
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS:           "linux",
		Architecture: runtime.GOARCH,
		RootFS:       rootFS(image),
		Config:       v1.Config{Entrypoint: append([]string{path}, args...), Env: []string{"PATH=/"}, WorkingDir: "/"},
	})
	if err != nil {
		return err
	}
	return tarball.WriteToFile(file, tag, image)
}

// rootFS is the image's list of layers, empty when it has no configuration yet.
func rootFS(image v1.Image) v1.RootFS {
	config, err := image.ConfigFile()
	if err != nil {
		return v1.RootFS{Type: "layers"}
	}
	return config.RootFS
}

func binaryLayer(binary, path string) (v1.Layer, error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, dir := range []tar.Header{{Name: "etc/", Mode: 0o755}, {Name: "tmp/", Mode: 0o1777}} {
		dir.Typeflag = tar.TypeDir
		if err := w.WriteHeader(&dir); err != nil {
			return nil, err
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(path, "/"), Mode: 0o755, Size: int64(len(content))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	})
}
