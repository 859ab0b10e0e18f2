package files

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/pkg/sftp"
)

const (
	newFile   fs.FileMode = 0o644
	newFolder fs.FileMode = 0o755
)

// Filewrite opens a file to be written.
func (h *handler) Filewrite(r *sftp.Request) (io.WriterAt, error) { return h.write(r, os.O_WRONLY) }

// OpenFile opens a file to be read and written.
func (h *handler) OpenFile(r *sftp.Request) (sftp.WriterAtReaderAt, error) {
	return h.write(r, os.O_RDWR)
}

func (h *handler) write(r *sftp.Request, flags int) (*file, error) {
	leave, err := h.enter()
	if err != nil {
		return nil, err
	}
	asked := r.Pflags()
	for flag, wanted := range map[int]bool{os.O_CREATE: asked.Creat, os.O_TRUNC: asked.Trunc, os.O_EXCL: asked.Excl, os.O_APPEND: asked.Append} {
		if wanted {
			flags |= flag
		}
	}
	f, err := h.tree.write(r.Filepath, flags)
	if err != nil {
		leave()
		return nil, spoken(err)
	}
	return h.files.add(r, &file{File: f, write: true, appends: asked.Append, leave: leave}), nil
}

// Filecmd changes what a path names. Owners and hard links cannot be changed.
func (h *handler) Filecmd(r *sftp.Request) error {
	switch r.Method {
	case "Setstat":
		to := r.Attributes()
		if to == nil {
			return sftp.ErrSSHFxBadMessage
		}
		if f := h.files.get(r.Filepath); f != nil {
			return spoken(f.change(r.AttrFlags(), to))
		}
		return spoken(h.tree.change(r.Filepath, r.AttrFlags(), to))
	case "Mkdir":
		return spoken(h.tree.changeIn(r.Filepath, func(root *os.Root, rel string) error { return root.Mkdir(rel, newFolder) }))
	case "Remove", "Rmdir":
		return spoken(h.tree.remove(r.Filepath, r.Method == "Rmdir"))
	case "Rename":
		if _, err := h.tree.stat(r.Target, false); err == nil {
			return spoken(syscall.EEXIST)
		}
		return h.PosixRename(r)
	case "Symlink": // the link is the target, for the protocol
		return spoken(h.tree.changeIn(r.Target, func(root *os.Root, rel string) error { return root.Symlink(r.Filepath, rel) }))
	}
	return sftp.ErrSSHFxPermissionDenied
}

// PosixRename renames what a path names, to a name that may be taken.
func (h *handler) PosixRename(r *sftp.Request) error {
	return spoken(h.tree.rename(path.Clean(r.Filepath), path.Clean(r.Target)))
}

// changeIn has something changed at a path, where the volume may be written.
func (t *tree) changeIn(name string, do func(root *os.Root, rel string) error) error {
	p, rel, ok := t.find(path.Clean(name))
	switch {
	case !ok:
		return syscall.EROFS // a folder on the way to volumes
	case p.err != nil:
		return p.err
	case !p.write:
		return syscall.EROFS
	}
	return do(p.root, rel)
}

// write opens a regular file with flags of package os.
func (t *tree) write(name string, flags int) (f *os.File, err error) {
	err = t.changeIn(name, func(root *os.Root, rel string) error {
		// What it is can change in between, so it is asked twice.
		info, err := root.Stat(rel)
		if err == nil && !info.Mode().IsRegular() {
			return irregular(info, name)
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if f, err = root.OpenFile(rel, flags|syscall.O_NONBLOCK, newFile); err != nil {
			return err
		}
		if info, err = f.Stat(); err != nil || !info.Mode().IsRegular() {
			_ = f.Close()
			return errors.Join(err, irregular(info, name))
		}
		return nil
	})
	return f, err
}

// change changes attributes.
func (t *tree) change(name string, which sftp.FileAttrFlags, to *sftp.FileStat) error {
	return t.changeIn(name, func(root *os.Root, rel string) error {
		if which.UidGid {
			return fs.ErrPermission
		}
		if which.Size {
			f, err := t.write(name, os.O_WRONLY)
			if err != nil {
				return err
			}
			if err := errors.Join(f.Truncate(int64(to.Size)), f.Close()); err != nil {
				return err
			}
		}
		if which.Permissions {
			if err := root.Chmod(rel, to.FileMode().Perm()); err != nil {
				return err
			}
		}
		if which.Acmodtime {
			return root.Chtimes(rel, time.Unix(int64(to.Atime), 0), to.ModTime())
		}
		return nil
	})
}

func (t *tree) remove(name string, folder bool) error {
	return t.changeIn(name, func(root *os.Root, rel string) error {
		info, err := root.Lstat(rel)
		switch {
		case err != nil:
			return err
		case folder && !info.IsDir():
			return syscall.ENOTDIR
		case !folder && info.IsDir():
			return syscall.EISDIR
		}
		return root.Remove(rel)
	})
}

func (t *tree) rename(from, to string) error {
	return t.changeIn(from, func(root *os.Root, rel string) error {
		return t.changeIn(to, func(other *os.Root, otherRel string) error {
			if other != root {
				return syscall.EXDEV
			}
			return root.Rename(rel, otherRel)
		})
	})
}
