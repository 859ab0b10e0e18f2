package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

const (
	// together is how many files are copied at a time: each takes several questions.
	together = 16
	// maxDepth bounds folders in folders.
	maxDepth = 200
	// dataLink is the link that a kubelet replaces when it changes a volume as a whole.
	dataLink = "..data"
	// attempts bounds how often a volume is copied again that changes meanwhile.
	attempts = 3
)

// Copy copies what is served into the folder, once, where it stays. The copies belong to
// the user of this process alone. On failure, and when ctx ends, nothing stays.
//
// A volume that a kubelet changes as a whole is copied as it was at one moment. Of others
// what is gone meanwhile is left out, and named.
func Copy(ctx context.Context, cfg Config) (Copied, error) {
	f, err := newFolder(cfg.Dir)
	if err != nil {
		return Copied{}, err
	}
	r := newRemote(cfg.Open)
	defer r.close()
	stop := context.AfterFunc(ctx, r.close)
	defer stop()
	client, err := r.get()
	if err == nil {
		c := &copier{client, f}
		var gone []string
		gone, err = c.folder("", 0)
		for _, name := range gone {
			f.leave(name, "gone meanwhile")
		}
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case isLost(err):
		err = hint.With(err, "the pod may have been replaced: try again")
	}
	if err = f.close(err); err != nil {
		return Copied{}, fmt.Errorf("copy files to %s: %w", cfg.Dir, err)
	}
	slices.Sort(f.copied.Left)
	return f.copied, nil
}

// copier copies from a server to a folder. Paths are relative to both.
type copier struct {
	client *sftp.Client
	to     *folder
}

// folder copies what is in a folder, and returns what was gone before it was copied.
func (c *copier) folder(name string, depth int) (gone []string, err error) {
	if depth > maxDepth {
		c.to.leave(name, "it lies too deep")
		return nil, nil
	}
	for n := range attempts {
		infos, err := c.client.ReadDir("/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			return []string{name}, nil
		} else if err != nil {
			if c.to.passed(name, err) {
				return nil, nil
			}
			return nil, err
		}
		before := c.to.copied
		if gone, err = c.entries(name, infos, depth); err != nil {
			return nil, err
		}
		whole := slices.ContainsFunc(infos, func(info fs.FileInfo) bool { return info.Name() == dataLink })
		if !whole || len(gone) == 0 || n == attempts-1 {
			break
		}
		rel, err := local(name)
		if err == nil {
			err = c.to.clear(rel)
		}
		if err != nil {
			return nil, err
		}
		c.to.copied = before
	}
	return gone, nil
}

// entries copies what was listed of a folder.
func (c *copier) entries(dir string, infos []fs.FileInfo, depth int) (gone []string, err error) {
	var files errgroup.Group
	files.SetLimit(together)
	vanished := make(chan string, len(infos))
	for _, info := range infos {
		base := info.Name()
		name := path.Join(dir, base)
		if base == "" || base == "." || base == ".." || strings.ContainsAny(base, "/\x00") {
			continue // no system has such a name
		}
		one := func() error { return c.entry(name, info, infos) }
		if info.IsDir() {
			one = func() error {
				below, err := c.subfolder(name, depth)
				gone = append(gone, below...)
				return err
			}
		}
		do := func() error {
			err := one()
			switch {
			case err == nil, !isLost(err) && c.to.passed(name, err):
				return nil
			case errors.Is(err, fs.ErrNotExist):
				vanished <- name
				return nil
			}
			return fmt.Errorf("/%s: %w", name, err)
		}
		if info.Mode().IsRegular() {
			files.Go(do)
		} else if err = do(); err != nil {
			break
		}
	}
	err = errors.Join(err, files.Wait())
	close(vanished)
	for name := range vanished {
		gone = append(gone, name)
	}
	return gone, err
}

func (c *copier) subfolder(name string, depth int) (gone []string, err error) {
	if err := c.to.mkdir(name); err != nil {
		return nil, err
	}
	return c.folder(name, depth+1)
}

// entry copies what is no folder.
func (c *copier) entry(name string, info fs.FileInfo, beside []fs.FileInfo) error {
	switch info.Mode().Type() {
	case 0:
		f, err := c.client.Open("/" + name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		return c.to.file(name, info.Mode(), info.ModTime(), func(w io.Writer) (int64, error) { return f.WriteTo(w) })
	case fs.ModeSymlink:
		to, err := c.client.ReadLink("/" + name)
		if err != nil {
			return err
		}
		if info.Name() == dataLink && !slices.ContainsFunc(beside, func(b fs.FileInfo) bool { return b.Name() == to }) {
			return fs.ErrNotExist // it leads to what has come since
		}
		return c.to.symlink(name, to)
	}
	c.to.leave(name, "no file, folder or link")
	return nil
}
