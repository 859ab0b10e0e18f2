package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// WriteDocker writes img to w as a docker archive of that name, which
// `ctr images import` and `docker load` read.
func WriteDocker(w io.Writer, imageName string, img v1.Image) error {
	tag, err := Spec{Name: imageName}.reference()
	if err != nil {
		return err
	}
	if err := tarball.Write(tag, img, w); err != nil {
		return fmt.Errorf("write docker archive of %s: %w", imageName, err)
	}
	return nil
}

// Index joins images of several platforms into one image index.
func Index(images ...v1.Image) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, img := range images {
		config, err := img.ConfigFile()
		if err != nil {
			return nil, fmt.Errorf("read image's platform: %w", err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: config.Platform()},
		})
	}
	return index, nil
}

// WriteOCI writes an index with all its images to w as a tar of an OCI image
// layout. `ctr images import` and `skopeo` read it under the given name.
func WriteOCI(w io.Writer, imageName string, index v1.ImageIndex) error {
	tag, err := Spec{Name: imageName}.reference()
	if err != nil {
		return err
	}
	l := layout{tw: tar.NewWriter(w), written: map[v1.Hash]bool{}}
	if err := l.write(tag, index); err != nil {
		return fmt.Errorf("write OCI archive of %s: %w", imageName, err)
	}
	return nil
}

// layout writes the entries of an OCI image layout, each blob once.
type layout struct {
	tw      *tar.Writer
	written map[v1.Hash]bool
}

func (l *layout) write(tag name.Tag, index v1.ImageIndex) error {
	for _, dir := range []string{"/blobs/", "/blobs/sha256/"} {
		if err := l.tw.WriteHeader(header(tar.TypeDir, dir, 0o755)); err != nil {
			return err
		}
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range manifest.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			return fmt.Errorf("image %s: %w", d.Digest, err)
		}
		if err := l.image(img); err != nil {
			return fmt.Errorf("image %s: %w", d.Digest, err)
		}
	}
	raw, err := index.RawManifest()
	if err != nil {
		return err
	}
	hash, size, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	if err := l.blob(hash, raw); err != nil {
		return err
	}
	top, err := json.Marshal(v1.IndexManifest{
		SchemaVersion: 2,
		MediaType:     types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: types.OCIImageIndex,
			Size:      size,
			Digest:    hash,
			Annotations: map[string]string{
				"io.containerd.image.name":          tag.Name(),
				"org.opencontainers.image.ref.name": tag.TagStr(),
			},
		}},
	})
	if err != nil {
		return err
	}
	if err := l.file("/index.json", top); err != nil {
		return err
	}
	if err := l.file("/oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	return l.tw.Close()
}

func (l *layout) image(img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		hash, err := layer.Digest()
		if err != nil {
			return err
		}
		rc, err := layer.Compressed()
		if err != nil {
			return err
		}
		data, err := io.ReadAll(rc)
		if err != nil {
			return fmt.Errorf("layer %s: %w", hash, err)
		}
		if err := rc.Close(); err != nil {
			return fmt.Errorf("layer %s: %w", hash, err)
		}
		if err := l.blob(hash, data); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		raw  func() ([]byte, error)
		hash func() (v1.Hash, error)
	}{{img.RawConfigFile, img.ConfigName}, {img.RawManifest, img.Digest}} {
		raw, err := part.raw()
		if err != nil {
			return err
		}
		hash, err := part.hash()
		if err != nil {
			return err
		}
		if err := l.blob(hash, raw); err != nil {
			return err
		}
	}
	return nil
}

func (l *layout) blob(hash v1.Hash, data []byte) error {
	if l.written[hash] {
		return nil
	}
	l.written[hash] = true
	return l.file("/blobs/"+hash.Algorithm+"/"+hash.Hex, data)
}

func (l *layout) file(p string, data []byte) error {
	return File{Path: p, Data: data, Mode: 0o644}.write(l.tw)
}

// ToFile makes the file at path from what write gives, whole or not at all,
// with its folder.
func ToFile(path string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if err := write(f); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
