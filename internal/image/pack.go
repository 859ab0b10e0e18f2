package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// epoch is the time of everything in an image: the start of Unix time, so
// that images differ only when their content does.
var epoch = time.Unix(0, 0).UTC()

// Pack makes the image that spec describes.
func Pack(spec Spec) (v1.Image, error) {
	img, err := pack(spec)
	if err != nil {
		return nil, fmt.Errorf("pack image %s: %w", spec.Name, err)
	}
	return img, nil
}

func pack(spec Spec) (v1.Image, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	platform, err := spec.platform()
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	if err := writeFiles(&content, spec); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("compress layer: %w", err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.Append(base, mutate.Addendum{
		Layer:     layer,
		MediaType: types.OCILayer,
		History:   v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "kubectl-tele"},
	})
	if err != nil {
		return nil, fmt.Errorf("append layer: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = platform.OS, platform.Architecture, platform.Variant
	config.Created = v1.Time{Time: epoch}
	config.Config = v1.Config{
		Entrypoint: spec.Entrypoint,
		Cmd:        spec.Cmd,
		Env:        spec.Env,
		User:       spec.User,
		WorkingDir: spec.WorkingDir,
		Labels:     spec.Labels,
	}
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		return nil, fmt.Errorf("set config: %w", err)
	}
	return img, nil
}

// writeFiles writes the layer: every directory before what it holds, all in
// the order of their paths.
func writeFiles(w io.Writer, spec Spec) error {
	entries := map[string]func(*tar.Writer) error{}
	directories := func(p string) {
		for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
			entries[dir] = func(tw *tar.Writer) error {
				return tw.WriteHeader(header(tar.TypeDir, dir+"/", 0o755))
			}
		}
	}
	for _, f := range spec.Files {
		directories(f.Path)
		entries[f.Path] = f.write
	}
	for _, l := range spec.Links {
		directories(l.Path)
		entries[l.Path] = func(tw *tar.Writer) error {
			h := header(tar.TypeSymlink, l.Path, 0o777)
			h.Linkname = l.Target
			return tw.WriteHeader(h)
		}
	}
	tw := tar.NewWriter(w)
	for _, p := range slices.Sorted(maps.Keys(entries)) {
		if err := entries[p](tw); err != nil {
			return fmt.Errorf("write %s: %w", p, err)
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("end layer: %w", err)
	}
	return nil
}

func (f File) write(tw *tar.Writer) error {
	data := f.Data
	if data == nil {
		var err error
		if data, err = os.ReadFile(f.Source); err != nil {
			return err
		}
	}
	mode := f.Mode.Perm()
	if mode == 0 {
		mode = 0o755
	}
	h := header(tar.TypeReg, f.Path, mode)
	h.Size = int64(len(data))
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := tw.Write(data)
	return err
}

func header(kind byte, p string, mode fs.FileMode) *tar.Header {
	return &tar.Header{Typeflag: kind, Name: p[1:], Mode: int64(mode), ModTime: epoch, Format: tar.FormatUSTAR}
}
