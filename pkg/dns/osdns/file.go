package osdns

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// resolveLink follows symbolic links as if root were the file system's, and
// returns the path below root where they end; nothing need be there.
func (o Options) resolveLink(path string) (string, error) {
	for range 16 {
		target, err := os.Readlink(o.path(path))
		if err != nil {
			if info, err := os.Lstat(o.path(path)); err == nil && !info.Mode().IsRegular() {
				return "", fmt.Errorf("%s is no regular file", path)
			}
			return path, nil // no link, or nothing
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = filepath.Clean(target)
	}
	return "", fmt.Errorf("%s: too many symbolic links", path)
}

// readFile reads a whole file that may not be large.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	return b, err
}

// writeInPlace replaces the content and keeps the file: its inode, owner,
// mode, labels, and the bind mount that it may be. Readers see the old
// content, the new one, or the new one with an end of the old.
func writeInPlace(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Truncate(int64(len(content)))
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// state is whose content a file has.
type state uint8

const (
	before state = iota // what was there, or nothing where nothing was
	ours                // what we wrote, or a part of it
	theirs              // what somebody else wrote, or nothing where something was
)

// state reads the file. A crash in the middle of writeInPlace counts as ours.
func (c change) state(o Options) (state, error) {
	b, err := readFile(o.path(c.Path))
	switch {
	case errors.Is(err, fs.ErrNotExist) && !c.Existed:
		return before, nil
	case errors.Is(err, fs.ErrNotExist):
		return theirs, nil
	case err != nil:
		return theirs, err
	case c.Existed && bytes.Equal(b, c.Before):
		return before, nil
	case !c.Existed && len(b) == 0, // made, and not written to before a crash
		torn(b, c.Before, c.Ours), torn(b, c.Ours, c.Before),
		c.Earlier != nil && (torn(b, c.Earlier, c.Ours) || torn(b, c.Before, c.Earlier)):
		return ours, nil
	}
	return theirs, nil
}

// torn reports whether b is the beginning of written over the file that held
// old, or all of written.
func torn(b, old, written []byte) bool {
	n := 0
	for n < len(b) && n < len(written) && b[n] == written[n] {
		n++
	}
	switch {
	case len(b) == n && (n == len(written) || len(old) <= n):
		return n > 0 || len(written) == 0
	case n > 0 && n <= len(old) && bytes.Equal(b[n:], old[n:]):
		return true
	}
	return false
}

// restore puts back what was there before, if it is ours that is there now. Of
// ours that somebody has added to, the addition stays.
func (c change) restore(o Options) error {
	st, err := c.state(o)
	if err != nil || st == before {
		return err
	}
	if st == ours {
		return c.putBack(o, c.Before, c.Existed)
	}
	changed := &ChangedError{Paths: []string{c.Path}}
	now, err := readFile(o.path(c.Path))
	if err != nil || !bytes.HasPrefix(now, []byte(header)) {
		return changed // gone, or all theirs
	}
	content := c.withAdded(now)
	if err := c.putBack(o, content, c.Existed || len(content) > 0); err != nil {
		return err
	}
	return changed
}

func (c change) putBack(o Options, content []byte, existed bool) error {
	if !existed {
		return os.Remove(o.path(c.Path))
	}
	return writeInPlace(o.path(c.Path), content)
}

// withAdded is the content before us and every line that is in now and not in
// ours.
func (c change) withAdded(now []byte) []byte {
	known := map[string]bool{}
	for line := range bytes.Lines(c.Ours) {
		known[string(line)] = true
	}
	content := bytes.Clone(c.Before)
	for line := range bytes.Lines(now) {
		if known[string(line)] {
			continue
		}
		if len(content) > 0 && !bytes.HasSuffix(content, []byte("\n")) {
			content = append(content, '\n')
		}
		content = append(content, line...)
	}
	return content
}
