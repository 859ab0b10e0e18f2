package mount

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// errCutOff is an archive without its end.
var errCutOff = errors.New("the archive is cut off")

// Unpack is Copy from a tar archive, which open begins. One that is cut off is asked for
// again: what a command in a container prints last may be lost when it ends. One of which
// nothing comes for a minute is given up, where it has a SetReadDeadline. A CloseWrite
// of the archive is called at its end; what reading says then, of files that could not be
// read, is among what is left.
func Unpack(ctx context.Context, dir string, open func(ctx context.Context) (io.ReadCloser, error)) (Copied, error) {
	f, err := newFolder(dir)
	if err != nil {
		return Copied{}, err
	}
	all := &tally{}
	for range attempts {
		if err = f.unpack(ctx, open, all); !errors.Is(err, errCutOff) {
			break
		}
		if failed := f.clear(); failed != nil {
			err = failed
			break
		}
		all = &tally{}
	}
	if errors.Is(err, errCutOff) {
		err = hint.With(err, "try again: the connection to the container ended too early")
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err = f.close(err); err != nil {
		return Copied{}, fmt.Errorf("copy files to %s: %w", dir, err)
	}
	slices.Sort(all.copied.Left)
	return all.copied, nil
}

func (f *folder) unpack(ctx context.Context, open func(ctx context.Context) (io.ReadCloser, error), t *tally) error {
	archive, err := open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = archive.Close() }()
	defer context.AfterFunc(ctx, func() { _ = archive.Close() })()
	source := &stream{ReadCloser: archive}
	for r := tar.NewReader(source); ; {
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF) && source.ended == nil:
			if conn, ok := archive.(interface{ CloseWrite() error }); ok {
				_ = conn.CloseWrite()
			}
			_, said := io.Copy(io.Discard, source)
			if said != nil {
				t.note(said.Error())
			}
			return nil
		case source.ended != nil && !errors.Is(source.ended, io.EOF):
			return source.ended
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errCutOff
		case err != nil:
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		err = f.unpackOne(name, h, r, t)
		switch {
		case err == nil, source.ended == nil && t.passed(name, err):
		case errors.Is(err, io.ErrUnexpectedEOF):
			return errCutOff
		default:
			return fmt.Errorf("/%s: %w", name, err)
		}
	}
}

func (f *folder) unpackOne(name string, h *tar.Header, content io.Reader, t *tally) error {
	if strings.Count(name, "/") > maxDepth {
		t.leave(name, "it lies too deep")
		return nil
	}
	if h.Typeflag == tar.TypeDir {
		return f.mkdir(name)
	}
	if err := f.mkdir(path.Dir(name)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		n, err := f.file(name, fs.FileMode(h.Mode), h.ModTime, func(w io.Writer) (int64, error) { return io.Copy(w, content) })
		if err == nil {
			t.file(n)
		}
		return err
	case tar.TypeSymlink:
		return f.symlink(name, h.Linkname)
	case tar.TypeLink:
		err := f.link(name, h.Linkname)
		if errors.Is(err, fs.ErrNotExist) {
			t.leave(name, "another name of what is not copied")
			return nil
		}
		return err
	}
	t.leave(name, "no file, folder or link")
	return nil
}

// stream notes how an archive ends.
type stream struct {
	io.ReadCloser
	ended error
}

func (s *stream) Read(p []byte) (int, error) {
	if conn, ok := s.ReadCloser.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = conn.SetReadDeadline(time.Now().Add(askLimit))
	}
	n, err := s.ReadCloser.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errLate
	}
	if err != nil {
		s.ended = err
	}
	return n, err
}
