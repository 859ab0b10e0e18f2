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
	all := &tally{}
	client, err := r.get()
	if err == nil {
		c := &copier{client, f}
		var gone []string
		gone, err = c.folder("", 0, all)
		for _, name := range gone {
			all.leave(name, "gone meanwhile")
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
	slices.Sort(all.copied.Left)
	return all.copied, nil
}

// copier copies from a server to a folder. Paths are relative to both.
type copier struct {
	client *sftp.Client
	to     *folder
}

// folder copies what is in a folder, and returns what was gone before it was copied.
func (c *copier) folder(name string, depth int, t *tally) (gone []string, err error) {
	if depth > maxDepth {
		t.leave(name, "it lies too deep")
		return nil, nil
	}
	for n := range attempts {
		infos, err := c.client.ReadDir("/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			return []string{name}, nil
		} else if err != nil {
			return nil, err
		}
		once := &tally{}
		if gone, err = c.entries(name, infos, depth, once); err != nil {
			return nil, err
		}
		whole := slices.ContainsFunc(infos, func(info fs.FileInfo) bool { return info.Name() == dataLink })
		if !whole || len(gone) == 0 || n == attempts-1 {
			t.add(once)
			break
		}
		if err = c.to.empty(name); err != nil {
			return nil, &diskError{err}
		}
	}
	return gone, nil
}

// entries copies what was listed of a folder. What cannot be had of one entry is noted; an
// error is of all.
func (c *copier) entries(dir string, infos []fs.FileInfo, depth int, t *tally) (gone []string, err error) {
	var files errgroup.Group
	files.SetLimit(together)
	vanished := make(chan string, len(infos))
	for _, info := range infos {
		base := info.Name()
		name := path.Join(dir, base)
		if base == "" || base == "." || base == ".." || strings.ContainsAny(base, "/\x00") {
			continue // no system has such a name
		}
		one := func() error { return c.entry(name, info, infos, t) }
		if info.IsDir() {
			one = func() error {
				below, err := c.subfolder(name, depth, t)
				gone = append(gone, below...)
				return err
			}
		}
		do := func() error {
			err := one()
			switch {
			case err == nil, !isLost(err) && t.passed(name, err):
				return nil
			case isLost(err), isDisk(err):
				return fmt.Errorf("/%s: %w", name, err)
			case errors.Is(err, fs.ErrNotExist):
				vanished <- name
			default:
				t.leave(name, err.Error())
			}
			return nil
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

func (c *copier) subfolder(name string, depth int, t *tally) (gone []string, err error) {
	if err := c.to.mkdir(name); err != nil {
		return nil, err
	}
	return c.folder(name, depth+1, t)
}

// entry copies what is no folder.
func (c *copier) entry(name string, info fs.FileInfo, beside []fs.FileInfo, t *tally) error {
	switch info.Mode().Type() {
	case 0:
		f, err := c.client.Open("/" + name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		n, err := c.to.file(name, info.Mode(), info.ModTime(), func(w io.Writer) (int64, error) { return f.WriteTo(w) })
		if err == nil {
			t.file(n)
		}
		return err
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
	t.leave(name, "no file, folder or link")
	return nil
}
