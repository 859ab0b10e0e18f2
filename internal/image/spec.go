package image

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Spec says what an image is made of.
type Spec struct {
	Name       string   // full reference with a tag: registry/repository:tag
	Platform   string   // OS/ARCH, as in linux/amd64
	Entrypoint []string // absolute path first
	Cmd        []string // arguments a container may replace
	Env        []string // NAME=value
	User       string   // uid or uid:gid; empty is root
	WorkingDir string   // empty is /
	Labels     map[string]string
	Files      []File
	Links      []Link
}

// File is one regular file of the image. Its content is Data, or the file
// named by Source when Data is nil.
type File struct {
	Path   string // absolute, in the image
	Source string // on this machine
	Data   []byte
	Mode   fs.FileMode // permission bits; zero is 0755
}

// Link is a symbolic link of the image.
type Link struct {
	Path   string // absolute, in the image
	Target string // as written into the link
}

// reference returns the image's name, which must carry a tag: a node that
// sees none, or `latest`, would try to pull the image.
func (s Spec) reference() (name.Tag, error) {
	tag, err := name.NewTag(s.Name, name.StrictValidation)
	if err != nil {
		return name.Tag{}, fmt.Errorf("image name %q: %w", s.Name, err)
	}
	return tag, nil
}

func (s Spec) platform() (*v1.Platform, error) {
	p, err := v1.ParsePlatform(s.Platform)
	if err != nil {
		return nil, fmt.Errorf("platform %q: %w", s.Platform, err)
	}
	if p.OS == "" || p.Architecture == "" {
		return nil, fmt.Errorf("platform %q: want OS/ARCH", s.Platform)
	}
	return p, nil
}

func (s Spec) validate() error {
	if _, err := s.reference(); err != nil {
		return err
	}
	if _, err := s.platform(); err != nil {
		return err
	}
	if len(s.Files) == 0 {
		return errors.New("no files")
	}
	seen := map[string]bool{}
	check := func(p string) error {
		switch {
		case !path.IsAbs(p) || path.Clean(p) != p || p == "/":
			return fmt.Errorf("path %q: want a clean absolute path", p)
		case seen[p]:
			return fmt.Errorf("path %q: given twice", p)
		}
		seen[p] = true
		return nil
	}
	for _, f := range s.Files {
		if err := check(f.Path); err != nil {
			return err
		}
	}
	for _, l := range s.Links {
		if err := check(l.Path); err != nil {
			return err
		}
		if l.Target == "" {
			return fmt.Errorf("link %q: no target", l.Path)
		}
	}
	for p := range seen {
		for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
			if seen[dir] {
				return fmt.Errorf("path %q: %q is not a directory", p, dir)
			}
		}
	}
	for _, e := range s.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return fmt.Errorf("env %q: want NAME=value", e)
		}
	}
	return nil
}
