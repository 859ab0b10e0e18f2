package osdns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

const (
	journalName  = "dns.json"
	journalLock  = "dns.lock"
	maxFile      = 1 << 20 // no resolver's file is larger; journals hold a few
	journalForms = 1       // version of the format
)

// record is what a journal holds: all that is needed to undo.
type record struct {
	Version int      `json:"version"`
	Backend string   `json:"backend"`
	Device  string   `json:"device,omitempty"`
	Files   []change `json:"files,omitempty"`
}

// change is a file of the system before and after us. The contents are kept
// byte for byte.
type change struct {
	Path    string      `json:"path"` // below Root, no link
	Existed bool        `json:"existed"`
	Mode    fs.FileMode `json:"mode,omitempty"`
	Before  []byte      `json:"before,omitempty"`
	Ours    []byte      `json:"ours"`
	Earlier []byte      `json:"earlier,omitempty"` // what we had written before Ours
}

// journal is a folder with at most one record. Who holds the lock may change
// it and the system; anybody may read it.
type journal struct {
	dir  string
	held *flock.Flock // nil without the lock
}

// acquire takes the lock, without waiting: ErrInUse. The lock goes with the
// process.
func (j *journal) acquire() error {
	if j.held != nil {
		return nil
	}
	if err := os.MkdirAll(j.dir, 0o755); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	lock, err := lockFile(filepath.Join(j.dir, journalLock))
	if err != nil {
		return fmt.Errorf("journal %s: %w", j.dir, err)
	}
	j.held = lock
	return nil
}

// release gives the lock back and leaves no trace of it.
func (j *journal) release() {
	if j.held == nil {
		return
	}
	_ = os.Remove(j.held.Path())
	_ = j.held.Close()
	j.held = nil
	_ = os.Remove(j.dir) // only if empty
}

// load returns the record, nil if there is none.
func (j *journal) load() (*record, error) {
	b, err := readFile(filepath.Join(j.dir, journalName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("journal %s: %w", j.dir, err)
	}
	if r.Version != journalForms {
		return nil, fmt.Errorf("journal %s: written by another version of this program (format %d)", j.dir, r.Version)
	}
	return &r, nil
}

// save returns when the record is on disk, with a copy of each old file that
// a person can put back by hand.
func (j *journal) save(r *record) error {
	r.Version = journalForms
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for _, c := range r.Files {
		if c.Existed {
			if err := j.replace(copyName(c.Path), c.Before); err != nil {
				return err
			}
		}
	}
	if err := j.replace(journalName, b); err != nil {
		return err
	}
	return syncDir(j.dir)
}

// remove says that nothing is to be undone any more.
func (j *journal) remove(r *record) error {
	if err := os.Remove(filepath.Join(j.dir, journalName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("journal: %w", err)
	}
	for _, c := range r.Files {
		_ = os.Remove(filepath.Join(j.dir, copyName(c.Path)))
	}
	return nil
}

func copyName(path string) string { return filepath.Base(path) + ".before" }

// replace writes a file of the journal in one step. The name on the way is
// fixed: only the lock's holder writes, and what a crashed one left is
// overwritten.
func (j *journal) replace(name string, content []byte) error {
	path := filepath.Join(j.dir, name)
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// syncDir makes a rename last through a crash of the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
