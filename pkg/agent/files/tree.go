package files

import (
	"errors"
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
}

// newTree opens the volumes. Those that are not there are left out.
func newTree(volumes []api.Volume) *tree {
	t := &tree{}
	for _, v := range volumes {
		p := place{path: v.Path}
		dir := v.Here
		if info, err := os.Stat(v.Here); err == nil && !info.IsDir() {
			dir, p.name = path.Split(v.Here)
		}
		var err error
		if p.root, err = os.OpenRoot(dir); err == nil {
			t.places = append(t.places, p)
		}
	}
	slices.SortFunc(t.places, func(a, b place) int { return len(b.path) - len(a.path) })
	return t
}

func (t *tree) close() {
	for _, p := range t.places {
		_ = p.root.Close()
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
	if ok {
		info, err := p.root.Lstat(rel)
		if err == nil && follow && info.Mode()&fs.ModeSymlink != 0 {
			info, err = p.root.Stat(rel)
		}
		if err == nil || len(t.below(name)) == 0 {
			return renamed(info, path.Base(name)), err
		}
	}
	if name == "/" || len(t.below(name)) > 0 {
		return folder(path.Base(name)), nil
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

// list describes what is in a folder.
func (t *tree) list(name string) ([]fs.FileInfo, error) {
	var all []fs.FileInfo
	have := map[string]bool{}
	names := t.below(name)
	if p, rel, ok := t.find(name); ok {
		dir, err := openIn(p.root, rel)
		if err == nil {
			all, err = dir.Readdir(-1)
			_ = dir.Close()
		}
		if err != nil && len(names) == 0 {
			return nil, err
		}
	} else if len(names) == 0 && name != "/" {
		return nil, &fs.PathError{Op: "list", Path: name, Err: fs.ErrNotExist}
	}
	for _, info := range all {
		have[info.Name()] = true
	}
	for _, n := range names {
		if !have[n] {
			if info, err := t.stat(path.Join(name, n), false); err == nil {
				all = append(all, info)
			}
		}
	}
	return all, nil
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
	return p.root.Readlink(rel)
}

// openIn opens for reading without waiting, whatever it is.
func openIn(root *os.Root, rel string) (*os.File, error) {
	return root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
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
func (folder) ModTime() time.Time { return time.Time{} }
func (folder) IsDir() bool        { return true }
func (folder) Sys() any           { return nil }
