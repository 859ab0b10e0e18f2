//go:build linux || darwin

package helper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxJournal bounds what is read back.
const maxJournal = 2 * maxLine

// journal is a file that is locked as long as its process lives, and whose
// content changes in one step. The lock is on the file that the path leads to
// at any time: a new content is a new file, locked before it takes the place.
type journal struct {
	path string
	file *os.File
}

// openJournal locks the file at path, making it if need be.
func openJournal(path string) (*journal, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("journal %s: not an absolute path", path)
	}
	for range 100 { // each turn means that another process replaced it just now
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		if err := lock(f); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("journal %s: %w", path, err)
		}
		mine, err1 := f.Stat()
		there, err2 := os.Lstat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			removeUnfinished(path)
			return &journal{path: path, file: f}, nil
		}
		_ = f.Close()
	}
	return nil, fmt.Errorf("journal %s: %w", path, ErrInUse)
}

// removeUnfinished removes what a writer that was killed did not rename. The
// caller holds the lock, so there is no writer.
func removeUnfinished(path string) {
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".*"))
	for _, l := range left {
		_ = os.Remove(l)
	}
}

func lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	return err
}

// Read returns the content, empty if nothing is to be undone.
func (j *journal) Read() ([]byte, error) {
	content, err := io.ReadAll(io.NewSectionReader(j.file, 0, maxJournal))
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return content, nil
}

// Write replaces the content, and returns when it is on disk.
func (j *journal) Write(content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(j.path), "."+filepath.Base(j.path)+".*")
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, lock(f), f.Sync())
	if err == nil {
		err = os.Rename(f.Name(), j.path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		_ = f.Close()
		return fmt.Errorf("journal %s: %w", j.path, err)
	}
	_ = j.file.Close()
	j.file = f
	return nil
}

// Release unlocks the journal and leaves its content to a successor.
func (j *journal) Release() error { return j.file.Close() }

// Remove removes the journal: nothing is left to undo.
func (j *journal) Remove() error {
	err := os.Remove(j.path)
	_ = j.file.Close()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}
