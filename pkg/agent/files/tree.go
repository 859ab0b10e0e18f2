package files

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// tree is the volumes at the paths of the app.
type tree struct {
	places []place // the longest path first
}

// place is an open volume: a folder, or a folder's one file.
type place struct {
	path string
	root *os.Root
	name string // of the one file; "" is the whole folder
	err  error  // why it cannot be read; root is nil then

	write bool // it may be changed
}

// newTree opens the volumes. Those that are not there are left out.
func newTree(volumes []api.Volume) *tree {
	t := &tree{}
	for _, v := range volumes {
		p := place{path: v.Path, write: v.Write}
		dir := v.Here
		if info, err := os.Stat(v.Here); err == nil && !info.IsDir() {
			dir, p.name = path.Split(v.Here)
		}
		if p.root, p.err = os.OpenRoot(dir); !errors.Is(p.err, fs.ErrNotExist) {
			t.places = append(t.places, p)
		}
	}
	slices.SortFunc(t.places, func(a, b place) int { return len(b.path) - len(a.path) })
	return t
}

func (t *tree) close() {
	for _, p := range t.places {
		if p.root != nil {
			_ = p.root.Close()
		}
	}
}

// find returns the volume that has a path, and where in it. Without one, the path may be
// on the way to a volume.
func (t *tree) find(name string) (p place, rel string, ok bool) {
	for _, p := range t.places {
		rest, within := strings.CutPrefix(name, strings.TrimSuffix(p.path, "/"))
		switch {
		case !within:
		case rest == "" && p.name != "":
			return p, p.name, true
		case p.name != "":
		case rest == "" || rest == "/":
			return p, ".", true
		case rest[0] == '/':
			return p, rest[1:], true
		}
	}
	return place{}, "", false
}

// below are the names in a folder that lead to volumes.
func (t *tree) below(dir string) (names []string) {
	dir = strings.TrimSuffix(dir, "/") + "/"
	for _, p := range t.places {
		if rest, ok := strings.CutPrefix(p.path, dir); ok && rest != "" {
			name, _, _ := strings.Cut(rest, "/")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// stat describes what is at a path; of a link that is the last of it, the link, unless
// follow is set.
func (t *tree) stat(name string, follow bool) (fs.FileInfo, error) {
	p, rel, ok := t.find(name)
	if ok && p.err == nil {
		info, err := p.root.Lstat(rel)
		if err == nil && follow && info.Mode()&fs.ModeSymlink != 0 {
			info, err = p.root.Stat(rel)
		}
		if err == nil || len(t.below(name)) == 0 {
			return renamed(info, path.Base(name)), err
		}
	}
	if name == "/" || ok && p.err != nil && rel == "." || len(t.below(name)) > 0 {
		return folder(path.Base(name)), nil
	}
	if ok && p.err != nil {
		return nil, p.err
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

// list opens a folder to be read. The caller closes it.
func (t *tree) list(name string) (*listing, error) {
	l := &listing{}
	for _, n := range t.below(name) {
		if info, err := t.stat(path.Join(name, n), false); err == nil {
			l.below = append(l.below, info)
		}
	}
	p, rel, ok := t.find(name)
	var err error
	switch {
	case ok && p.err != nil:
		err = p.err
	case ok:
		l.dir, err = openFolder(p.root, rel)
	case name != "/":
		err = fs.ErrNotExist
	}
	if err != nil && len(l.below) == 0 {
		return nil, &fs.PathError{Op: "list", Path: name, Err: err}
	}
	return l, nil
}

// listing is an open folder: what is in the volume, read piece by piece, then what else
// leads to volumes.
type listing struct {
	dir   *os.File // nil: no volume has it, or all of it was read
	below []fs.FileInfo
}

// next returns up to n of what was not returned before, and io.EOF after the last.
func (l *listing) next(n int) ([]fs.FileInfo, error) {
	if l.dir != nil {
		piece, err := l.dir.Readdir(n)
		for _, info := range piece {
			l.below = slices.DeleteFunc(l.below, func(b fs.FileInfo) bool { return b.Name() == info.Name() })
		}
		if len(piece) > 0 || err != nil && !errors.Is(err, io.EOF) {
			return piece, err
		}
		l.close()
	}
	if len(l.below) == 0 {
		return nil, io.EOF
	}
	piece := l.below[:min(n, len(l.below))]
	l.below = l.below[len(piece):]
	return piece, nil
}

func (l *listing) close() {
	if l.dir != nil {
		_ = l.dir.Close()
		l.dir = nil
	}
}

// errIrregular is that something is no regular file: to open a pipe or a device may wait
// for ever, or do something.
var errIrregular = errors.New("not a regular file")

// open opens a regular file.
func (t *tree) open(name string) (*os.File, error) {
	p, rel, ok := t.find(name)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if p.err != nil {
		return nil, p.err
	}
	// What it is can change in between, so it is asked twice.
	if info, err := p.root.Stat(rel); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, irregular(info, name))
	}
	f, err := openIn(p.root, rel)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, errors.Join(err, irregular(info, name))
	}
	return f, nil
}

func irregular(info fs.FileInfo, name string) error {
	if info == nil {
		return nil
	}
	return &fs.PathError{Op: "open", Path: name, Err: errIrregular}
}

// readlink returns where a link leads.
func (t *tree) readlink(name string) (string, error) {
	p, rel, ok := t.find(name)
	if !ok {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrNotExist}
	}
	if p.err != nil {
		return "", p.err
	}
	return p.root.Readlink(rel)
}

// openIn opens for reading without waiting, whatever it is.
func openIn(root *os.Root, rel string) (*os.File, error) {
	return root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// openFolder opens a folder, and nothing else: to open a device may do something.
func openFolder(root *os.Root, rel string) (*os.File, error) {
	if info, err := root.Stat(rel); err != nil || !info.IsDir() {
		return nil, cmp.Or(err, errors.New("not a folder"))
	}
	return openIn(root, rel)
}

// named is a FileInfo under another name.
type named struct {
	fs.FileInfo
	name string
}

func (n named) Name() string { return n.name }

func renamed(info fs.FileInfo, name string) fs.FileInfo {
	if info == nil || info.Name() == name {
		return info
	}
	return named{info, name}
}

// folder is a folder that is only on the way to volumes.
type folder string

func (f folder) Name() string     { return string(f) }
func (folder) Size() int64        { return 0 }
func (folder) Mode() fs.FileMode  { return fs.ModeDir | 0o555 }
func (folder) ModTime() time.Time { return time.Unix(0, 0) } // SFTP has none before
func (folder) IsDir() bool        { return true }
func (folder) Sys() any           { return nil }
