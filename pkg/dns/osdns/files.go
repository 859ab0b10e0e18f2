package osdns

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// want is a file as a backend wants it. render gets the content without ours,
// nil if there is no file, and may refuse.
type want struct {
	path   string
	render func(before []byte) ([]byte, error)
}

// system is what all backends share: one machine, its journal, and whether
// this process has the lock.
type system struct {
	Options
	backend string
	mu      sync.Mutex
	journal journal
}

func newSystem(o Options, backend string) *system {
	return &system{Options: o, backend: backend, journal: journal{dir: o.path(o.JournalDir)}}
}

// begin takes the lock and returns what the journal says is in force, an
// empty record if nothing is.
func (s *system) begin() (*record, error) {
	if err := s.journal.acquire(); err != nil {
		return nil, err
	}
	rec, err := s.journal.load()
	if err != nil {
		s.journal.release()
		return nil, err
	}
	if rec == nil {
		rec = &record{}
	}
	return rec, nil
}

// takeOver returns what is in force and can be replaced. What another backend
// has set, or another link has, is undone first.
func (s *system) takeOver(dev string) (*record, error) {
	old, err := s.begin()
	if err != nil {
		return nil, err
	}
	if old.Backend == "" || old.Backend == s.backend && (old.Device == dev || old.Backend != backendResolved) {
		return old, nil
	}
	var changed *ChangedError
	if err := s.revert(old); err != nil && !errors.As(err, &changed) {
		return nil, err
	}
	return s.begin()
}

// plan makes the record of the wanted files: what to put back is what was
// there before us, or what somebody else has put there since.
func (s *system) plan(old *record, device string, wants []want) (*record, error) {
	next := &record{Backend: s.backend, Device: device}
	for _, w := range wants {
		path, err := s.resolveLink(w.path)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(old.Files, func(c change) bool { return c.Path == path })
		var last change
		if i >= 0 {
			last = old.Files[i]
		}
		c, err := s.without(path, last, i >= 0)
		if err != nil {
			return nil, err
		}
		c.Earlier = c.Ours
		var content []byte
		if c.Existed {
			content = append([]byte{}, c.Before...) // not nil, even if empty
		}
		if c.Ours, err = w.render(content); err != nil {
			return nil, err
		}
		next.Files = append(next.Files, c)
	}
	return next, nil
}

// without is what is to be put back later: what was there before us or what
// somebody else has put there since. last is the change in force, if known.
func (s *system) without(path string, last change, known bool) (change, error) {
	if known {
		if st, err := last.state(s.Options); err != nil || st != theirs {
			return last, err
		}
	}
	c := change{Path: path}
	content, err := readFile(s.path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	info, err := os.Stat(s.path(path))
	if err != nil {
		return c, err
	}
	c.Mode = info.Mode().Perm()
	if known && bytes.HasPrefix(content, []byte(header)) {
		c.Before = last.withAdded(content)
		c.Existed = last.Existed || len(c.Before) > 0
		return c, nil
	}
	c.Before, c.Existed = without(content)
	return c, nil
}

// write puts the files of next in force, after what old had and next has not
// is undone. next is already in the journal.
func (s *system) write(old, next *record) error {
	for _, c := range old.Files {
		if slices.ContainsFunc(next.Files, func(n change) bool { return n.Path == c.Path }) {
			continue
		}
		var changed *ChangedError
		if err := c.restore(s.Options); err != nil && !errors.As(err, &changed) {
			return err
		}
	}
	for _, c := range next.Files {
		if err := os.MkdirAll(filepath.Dir(s.path(c.Path)), 0o755); err != nil {
			return err
		}
		if now, err := readFile(s.path(c.Path)); err == nil && bytes.Equal(now, c.Ours) {
			continue
		}
		if err := writeInPlace(s.path(c.Path), c.Ours); err != nil {
			return explain(fmt.Errorf("write %s: %w", c.Path, err), c.Path)
		}
	}
	return nil
}

// merged is old and next together: until next is in force, either may be.
func merged(old, next *record) *record {
	m := *next
	m.Files = slices.Clone(next.Files)
	for _, c := range old.Files {
		if !slices.ContainsFunc(next.Files, func(n change) bool { return n.Path == c.Path }) {
			m.Files = append(m.Files, c)
		}
	}
	return &m
}

// setFiles does for a backend of files what Set promises.
func (s *system) setFiles(dev string, wants []want) error {
	old, err := s.takeOver(dev)
	if err != nil {
		return explain(err, s.JournalDir)
	}
	next, err := s.plan(old, dev, wants)
	if err == nil {
		err = s.journal.save(merged(old, next))
	}
	if err != nil {
		return errors.Join(err, s.undo(old))
	}
	if err := s.write(old, next); err != nil {
		return errors.Join(err, s.undo(merged(old, next)))
	}
	return s.journal.save(next)
}
