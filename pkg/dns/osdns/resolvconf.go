package osdns

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

const resolvConfPath = "/etc/resolv.conf"

const (
	// header marks a file as ours.
	header = "# Written by kubectl tele: names of a Kubernetes cluster are asked of the cluster.\n"
	// was marks a line of the old file in ours.
	was = "# was: "
)

// resolvConf is the backend for a plain /etc/resolv.conf: a file, a bind
// mount, or a symbolic link to a file that some other program made.
type resolvConf struct{ *system }

func (r resolvConf) Set(dev string, c Config) error {
	if err := check(dev, c); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Empty() {
		return r.clear()
	}
	return r.setFiles(dev, []want{{resolvConfPath, func(before []byte) ([]byte, error) {
		return r.render(before, c), nil
	}}})
}

// render makes our resolv.conf out of the one before: our servers, our search
// list, and every setting of the old file that does not concern these.
func (r resolvConf) render(old []byte, c Config) []byte {
	f := parseResolvConf(old)
	var b bytes.Buffer
	b.WriteString(header)
	b.WriteString("# `kubectl tele quit` puts the old file back; after a crash the next `kubectl tele connect` does.\n")
	if old != nil {
		fmt.Fprintf(&b, "# By hand: cp %s %s\n", path.Join(r.JournalDir, copyName(resolvConfPath)), resolvConfPath)
	}
	for _, s := range c.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(c.Search) > 0 {
		b.WriteString("search")
		for i, s := range c.Search {
			if !slices.Contains(c.Search[:i], s) {
				b.WriteString(" " + s)
			}
		}
		b.WriteString("\n")
	}
	options := f.options
	if c.Ndots > 0 {
		options = slices.DeleteFunc(slices.Clone(options), func(o string) bool { return hasName(o, "ndots") })
		options = append([]string{fmt.Sprintf("ndots:%d", c.Ndots)}, options...)
	}
	if len(options) > 0 {
		b.WriteString("options")
		for _, o := range options {
			b.WriteString(" " + o)
		}
		b.WriteString("\n")
	}
	for _, line := range f.others {
		b.WriteString(line + "\n")
	}
	for line := range strings.Lines(string(old)) {
		b.WriteString(was + strings.TrimRight(line, "\r\n") + "\n")
	}
	return b.Bytes()
}

// without makes the old content out of one of ours whose journal is gone or
// not to be read, as after a VPN has put back what it had found: all but the
// last newline and carriage returns. Any other content it returns as it is.
// It is false when there was no old file.
func without(content []byte) ([]byte, bool) {
	if !bytes.HasPrefix(content, []byte(header)) {
		return content, true
	}
	var old []byte
	for line := range bytes.Lines(content) {
		if rest, ok := bytes.CutPrefix(line, []byte(was)); ok {
			old = append(old, rest...)
		}
	}
	return old, old != nil
}

// Upstream reads the old file while ours is in force.
func (s *system) Upstream() (Upstream, error) {
	content, err := s.before(resolvConfPath)
	if err != nil {
		return Upstream{}, fmt.Errorf("read the resolvers of this machine: %w", err)
	}
	return parseResolvConf(content).upstream(), nil
}

// before is the content of a file without ours, nil if there is none.
func (s *system) before(name string) ([]byte, error) {
	real, err := s.resolveLink(name)
	if err != nil {
		return nil, err
	}
	rec, err := s.journal.load()
	if err != nil && !errors.Is(err, fs.ErrPermission) { // then ours itself tells
		return nil, err
	}
	if rec != nil {
		for _, c := range rec.Files {
			if c.Path != real {
				continue
			}
			if st, err := c.state(s.Options); err != nil || st != theirs {
				return c.Before, err
			}
		}
	}
	content, err := readFile(s.path(real))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	content, _ = without(content)
	return content, err
}
