package mount

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Copied is what a copy has.
type Copied struct {
	Files int
	Bytes int64
	Left  []string // what it has not, and why
}

// maxLines bounds what is told of files one by one.
const maxLines = 10

// Lines tell users what is not copied, of much the first.
func (c Copied) Lines() (lines []string) {
	for n, left := range c.Left {
		if n == maxLines {
			return append(lines, fmt.Sprintf("not copied: %d more", len(c.Left)-n))
		}
		lines = append(lines, "not copied: "+left)
	}
	return lines
}

// String says how much was copied.
func (c Copied) String() string {
	files := fmt.Sprintf("%d files", c.Files)
	if c.Files == 1 {
		files = "1 file"
	}
	switch {
	case c.Bytes < 10<<10:
		return fmt.Sprintf("%s, %d bytes", files, c.Bytes)
	case c.Bytes < 10<<20:
		return fmt.Sprintf("%s, %d KiB", files, c.Bytes>>10)
	}
	return fmt.Sprintf("%s, %d MiB", files, c.Bytes>>20)
}

// folder is where copies are written. What is said of names and links is not believed:
// nothing is written outside of it.
type folder struct {
	dir  string // its absolute path
	made bool
	root *os.Root

	mu     sync.Mutex
	copied Copied
}

// newFolder opens an empty folder, or makes one.
func newFolder(dir string) (*folder, error) {
	if err := CheckDir(dir); err != nil {
		return nil, err
	}
	f := &folder{dir: dir}
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		f.made = true
	case !errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("copy files: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("copy files: %w", err)
	}
	f.root = root
	return f, nil
}

// close ends the copying. On failure what was copied is taken away again.
func (f *folder) close(failed error) error {
	if failed != nil {
		failed = errors.Join(failed, f.clear("."))
	}
	_ = f.root.Close()
	if failed != nil && f.made {
		_ = os.Remove(f.dir)
	}
	return failed
}

// clear takes away what is in one of its folders.
func (f *folder) clear(name string) error {
	dir, err := f.root.Open(name)
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	_ = dir.Close()
	for _, n := range names {
		err = errors.Join(err, f.root.RemoveAll(path.Join(name, n)))
	}
	return err
}

// leave notes that something is not copied.
func (f *folder) leave(name, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.copied.Left = append(f.copied.Left, fmt.Sprintf("/%s: %s", name, why))
}

// passed reports whether err is about one file alone, and then notes that as left.
func (f *folder) passed(name string, err error) bool {
	var why string
	switch {
	case errors.Is(err, fs.ErrExist):
		why = "its name is taken by another"
	case errors.Is(err, fs.ErrPermission):
		why = "it may not be read"
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, errName):
		why = "its name is not possible here"
	default:
		return false
	}
	f.leave(name, why)
	return true
}

var errName = errors.New("not a name")

// local returns where a path is written.
func local(name string) (string, error) {
	rel := strings.TrimPrefix(path.Clean("/"+name), "/")
	if rel == "" {
		rel = "."
	}
	rel, err := filepath.Localize(rel)
	if err != nil {
		return "", errName
	}
	return rel, nil
}

func (f *folder) mkdir(name string) error {
	rel, err := local(name)
	if err == nil {
		err = f.root.MkdirAll(rel, 0o700)
	}
	return err
}

func (f *folder) symlink(name, to string) error {
	rel, err := local(name)
	if err == nil {
		err = f.root.Symlink(to, rel)
	}
	return err
}

// link makes a second name of a file that is there.
func (f *folder) link(name, to string) error {
	rel, err := local(name)
	if err != nil {
		return err
	}
	original, err := local(to)
	if err != nil {
		return err
	}
	return f.root.Link(original, rel)
}

// file makes a file with what write writes. It is the user's own, and may be executed if
// somebody might execute the original.
func (f *folder) file(name string, mode fs.FileMode, changed time.Time, write func(io.Writer) (int64, error)) error {
	rel, err := local(name)
	if err != nil {
		return err
	}
	own := fs.FileMode(0o600)
	if mode&0o111 != 0 {
		own = 0o700
	}
	file, err := f.root.OpenFile(rel, os.O_WRONLY|os.O_CREATE|os.O_EXCL, own)
	if err != nil {
		return err
	}
	n, err := write(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, f.root.Remove(rel))
	}
	_ = f.root.Chtimes(rel, changed, changed) // not worth a failure
	f.mu.Lock()
	defer f.mu.Unlock()
	f.copied.Files++
	f.copied.Bytes += n
	return nil
}
