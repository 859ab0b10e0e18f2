package osdns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The backends by the names under which journals know them.
const (
	backendResolvConf  = "resolv.conf"
	backendResolved    = "resolved"
	backendResolverDir = "resolver"
)

// CleanUp undoes what a crashed predecessor has left, if there is one: a
// running process's settings stay. It returns a *ChangedError when somebody
// else's content was found and left.
func CleanUp(o Options) error {
	s := newSystem(o.withDefaults(), "")
	if _, err := os.Stat(filepath.Join(s.journal.dir, journalName)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return explain(s.clear(), s.JournalDir)
}

// Close takes away what this process has set.
func (s *system) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal.held == nil {
		return nil
	}
	return s.clear()
}

// clear takes away what is in force, unless another process holds it.
func (s *system) clear() error {
	rec, err := s.begin()
	switch {
	case errors.Is(err, ErrInUse):
		return nil // not ours
	case err != nil:
		return err
	}
	return s.revert(rec)
}

// revert undoes rec, whichever backend wrote it, and gives up the lock.
func (s *system) revert(rec *record) error {
	switch rec.Backend {
	case backendResolved:
		if err := s.revertResolved(rec.Device); err != nil {
			s.journal.release()
			return err
		}
	case backendResolverDir:
		defer func() {
			_ = os.Remove(s.path(resolverDirPath)) // only if empty
			s.flushDarwin()
		}()
	}
	return s.undo(rec)
}

// undo takes away what rec says. What cannot be undone for now keeps the
// journal; what was changed by others is forgotten and reported.
func (s *system) undo(rec *record) error {
	var changed *ChangedError
	var failed []error
	for _, c := range rec.Files {
		var one *ChangedError
		switch err := c.restore(s.Options); {
		case errors.As(err, &one):
			if changed == nil {
				changed = &ChangedError{}
			}
			changed.Paths = append(changed.Paths, one.Paths...)
		case err != nil:
			failed = append(failed, explain(fmt.Errorf("put back %s: %w", c.Path, err), c.Path))
		}
	}
	if len(failed) == 0 {
		failed = append(failed, s.journal.remove(rec))
	}
	s.journal.release()
	if changed != nil {
		failed = append(failed, changed)
	}
	return errors.Join(failed...)
}
