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
	More  int      // what it has not either: Left does not grow for ever
}

const (
	// maxLeft bounds what is kept of files one by one, and maxLines what is told.
	maxLeft  = 1000
	maxLines = 10
)

// Lines tell users what is not copied, of much the first.
func (c Copied) Lines() (lines []string) {
	for n, left := range c.Left {
		if n == maxLines {
			return append(lines, fmt.Sprintf("not copied: %d more", len(c.Left)-n+c.More))
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

// tally counts what is copied. Its methods may be called concurrently.
type tally struct {
	mu     sync.Mutex
	copied Copied
}

func (t *tally) file(bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.copied.Files++
	t.copied.Bytes += bytes
}

// leave notes that something is not copied.
func (t *tally) leave(name, why string) { t.note(fmt.Sprintf("/%s: %s", name, why)) }

func (t *tally) note(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.copied.Left) >= maxLeft {
		t.copied.More++
		return
	}
	t.copied.Left = append(t.copied.Left, line)
}

// add adds what another has counted, which counts no more.
func (t *tally) add(other *tally) {
	for _, line := range other.copied.Left {
		t.note(line)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.copied.Files += other.copied.Files
	t.copied.Bytes += other.copied.Bytes
	t.copied.More += other.copied.More
}

// passed reports whether err is about one file only, and then notes that as left.
func (t *tally) passed(name string, err error) bool {
	var why string
	switch {
	case errors.Is(err, fs.ErrExist):
		why = "its name is taken by another"
	case errors.Is(err, fs.ErrPermission) && !isDisk(err):
		why = "it may not be read"
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, errName):
		why = "its name is not possible here"
	case errors.Is(err, errOutside):
		why = errOutside.Error()
	default:
		return false
	}
	t.leave(name, why)
	return true
}

var (
	errName    = errors.New("not a name")
	errOutside = errors.New("the link leads out of the copy")
)

// diskError is a failure of this machine's disk.
type diskError struct{ error }

func (e *diskError) Unwrap() error { return e.error }

func isDisk(err error) bool {
	var disk *diskError
	return errors.As(err, &disk)
}

// disk is a file whose failures are told from those of what is written there.
type disk struct{ file *os.File }

func (d disk) Write(p []byte) (int, error) {
	n, err := d.file.Write(p)
	if err != nil {
		err = &diskError{err}
	}
	return n, err
}

// folder is where copies are written. What is said of names and links is not believed:
// nothing is written outside of it, and no link in it leads out.
type folder struct {
	dir  string // its absolute path
	made bool
	root *os.Root

	mu  sync.Mutex
	own map[string]bool // what is ours right below it
}

// newFolder opens an empty folder, or makes one.
func newFolder(dir string) (*folder, error) {
	if err := CheckDir(dir); err != nil {
		return nil, err
	}
	f := &folder{dir: dir, own: map[string]bool{}}
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
		failed = errors.Join(failed, f.clear())
	}
	_ = f.root.Close()
	if failed != nil && f.made {
		_ = os.Remove(f.dir)
	}
	return failed
}

// clear takes away what was copied.
func (f *folder) clear() (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.own {
		err = errors.Join(err, f.root.RemoveAll(name))
	}
	clear(f.own)
	return err
}

// empty takes away what is in one of the folders that were copied.
func (f *folder) empty(name string) error {
	rel, err := local(name)
	if err != nil {
		return err
	}
	dir, err := f.root.Open(rel)
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	_ = dir.Close()
	for _, n := range names {
		err = errors.Join(err, f.root.RemoveAll(path.Join(rel, n)))
	}
	return err
}

// owns notes that something below f is a copy.
func (f *folder) owns(rel string) {
	first, _, _ := strings.Cut(filepath.ToSlash(rel), "/")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own[first] = true
}

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

// mkdir makes a folder and those above it. None of them may be a link: where it leads to
// is not where the container has it.
func (f *folder) mkdir(name string) error {
	rel, err := local(name)
	if err != nil || rel == "." {
		return err
	}
	above := ""
	for part := range strings.SplitSeq(filepath.ToSlash(rel), "/") {
		above = path.Join(above, part)
		switch err := f.root.Mkdir(above, 0o700); {
		case err == nil:
			f.owns(above)
		case !errors.Is(err, fs.ErrExist):
			return &diskError{err}
		default:
			if info, err := f.root.Lstat(above); err != nil || !info.IsDir() {
				return fs.ErrExist
			}
		}
	}
	return nil
}

// symlink makes a link that leads where the container's does, below the folder: what is
// absolute there is so from the folder. One that leads out of it is errOutside.
func (f *folder) symlink(name, to string) error {
	rel, err := local(name)
	if err != nil {
		return err
	}
	within, ok := confine(name, to)
	if !ok {
		return errOutside
	}
	if err := f.root.Symlink(filepath.FromSlash(within), rel); err != nil {
		return &diskError{err}
	}
	f.owns(rel)
	return nil
}

// confine returns where a link in a folder has to lead so that it stays below that, whatever
// other such links are there; ok is false if it cannot. name is the link's path below the
// folder, in which nothing is a link.
func confine(name, to string) (within string, ok bool) {
	up := strings.Count(name, "/")
	if path.IsAbs(to) {
		below := strings.TrimPrefix(path.Clean(to), "/")
		return path.Clean(strings.Repeat("../", up) + below), true
	}
	down := false // ".." of what may be a link leads anywhere
	for part := range strings.SplitSeq(to, "/") {
		switch part {
		case "", ".":
		case "..":
			if up--; down || up < 0 {
				return "", false
			}
		default:
			down = true
		}
	}
	return to, true
}

// link makes a second name of a file that is there. Of a link there is none.
func (f *folder) link(name, to string) error {
	rel, err := local(name)
	if err != nil {
		return err
	}
	original, err := local(to)
	if err != nil {
		return err
	}
	if info, err := f.root.Lstat(original); err == nil && info.Mode().Type() == fs.ModeSymlink {
		return errOutside // where it leads is right for one of its names only
	}
	if err := f.root.Link(original, rel); err != nil {
		return err
	}
	f.owns(rel)
	return nil
}

// file makes a file with what write writes, and returns its length. It is the user's own,
// and may be executed if somebody might execute the original.
func (f *folder) file(name string, mode fs.FileMode, changed time.Time, write func(io.Writer) (int64, error)) (int64, error) {
	rel, err := local(name)
	if err != nil {
		return 0, err
	}
	own := fs.FileMode(0o600)
	if mode&0o111 != 0 {
		own = 0o700
	}
	file, err := f.root.OpenFile(rel, os.O_WRONLY|os.O_CREATE|os.O_EXCL, own)
	if err != nil {
		return 0, &diskError{err}
	}
	f.owns(rel)
	n, err := write(disk{file})
	if closed := file.Close(); closed != nil {
		err = errors.Join(err, &diskError{closed})
	}
	if err != nil {
		return 0, errors.Join(err, f.root.Remove(rel))
	}
	_ = f.root.Chtimes(rel, changed, changed) // not worth a failure
	return n, nil
}
