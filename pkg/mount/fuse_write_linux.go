package mount

import (
	"context"
	"os"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/pkg/sftp"
)

var (
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeSymlinker = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.FileWriter    = (*handle)(nil)
	_ fs.FileFlusher   = (*handle)(nil)
	_ fs.FileFsyncer   = (*handle)(nil)
)

// openWrite opens a file to be written. The end of one that is appended to is known to the
// server only: others may have appended since the kernel was told its size. The kernel then
// keeps nothing of what is written, since it does not know where that is.
func (n *node) openWrite(path string, flags uint32) (*handle, uint32, syscall.Errno) {
	if !n.mount.cfg.Write {
		return nil, 0, syscall.EROFS
	}
	const passed = os.O_WRONLY | os.O_RDWR | os.O_CREATE | os.O_EXCL | os.O_TRUNC | os.O_APPEND
	o, err := n.mount.remote.openFile(path, int(flags)&passed)
	n.mount.recent.forget()
	if err != nil {
		return nil, 0, errno(err)
	}
	var fuseFlags uint32
	if flags&syscall.O_APPEND != 0 {
		fuseFlags = fuse.FOPEN_DIRECT_IO
	}
	return &handle{opened: o, wrote: n.mount.recent.forget}, fuseFlags, 0
}

func (n *node) Create(_ context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	path := join(n.path(), name)
	h, fuseFlags, failed := n.openWrite(path, flags|syscall.O_CREAT)
	if failed != 0 {
		return nil, nil, 0, failed
	}
	info, err := h.opened.made(os.FileMode(mode).Perm())
	n.mount.recent.forget()
	if err != nil {
		h.opened.close()
		return nil, nil, 0, errno(err)
	}
	return n.found(path, info, out), h, fuseFlags, 0
}

// look is the node of what is at a path now.
func (n *node) look(path string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	info, err := n.mount.remote.lstat(path)
	if err != nil {
		return nil, errno(err)
	}
	return n.found(path, n.mount.local.seen(info), out), 0
}

// change has something changed, once: what was lost on the way may have been done.
func (n *node) change(do func(*sftp.Client) error) syscall.Errno {
	if !n.mount.cfg.Write {
		return syscall.EROFS
	}
	defer n.mount.recent.forget()
	return errno(n.mount.remote.tell(do))
}

func (n *node) Mkdir(_ context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	path := join(n.path(), name)
	err := n.change(func(c *sftp.Client) error {
		if err := c.Mkdir(path); err != nil {
			return err
		}
		return c.Chmod(path, os.FileMode(mode).Perm())
	})
	if err != 0 {
		return nil, err
	}
	return n.look(path, out)
}

func (n *node) Symlink(_ context.Context, to, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	path := join(n.path(), name)
	if err := n.change(func(c *sftp.Client) error { return c.Symlink(to, path) }); err != 0 {
		return nil, err
	}
	return n.look(path, out)
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return n.change(func(c *sftp.Client) error { return c.Remove(join(n.path(), name)) })
}

func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	return n.change(func(c *sftp.Client) error { return c.RemoveDirectory(join(n.path(), name)) })
}

func (n *node) Rename(_ context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if flags != 0 { // to exchange two, or not to replace one, is not to be had
		return syscall.EINVAL
	}
	from, at := join(n.path(), name), join(to.(*node).path(), newName)
	return n.change(func(c *sftp.Client) error { return c.PosixRename(from, at) })
}

func (n *node) Setattr(_ context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	path := n.path()
	uid, ok := in.GetUID()
	gid, also := in.GetGID()
	if ok && int(uid) != os.Getuid() || also && int(gid) != os.Getgid() { // as whose they are shown
		return syscall.EPERM
	}
	err := n.change(func(c *sftp.Client) error {
		if size, ok := in.GetSize(); ok {
			truncate := func(size int64) error { return c.Truncate(path, size) }
			if h, ok := f.(*handle); ok { // its path may be another's
				truncate = h.opened.file.Truncate
			}
			if err := truncate(int64(size)); err != nil {
				return err
			}
		}
		if mode, ok := in.GetMode(); ok {
			if err := c.Chmod(path, os.FileMode(mode).Perm()); err != nil {
				return err
			}
		}
		if changed, ok := in.GetMTime(); ok {
			used, ok := in.GetATime()
			if !ok {
				used = time.Now()
			}
			return c.Chtimes(path, used, changed)
		}
		return nil
	})
	if err != 0 {
		return err
	}
	info, failed := n.stat(f)
	if failed != nil {
		return errno(failed)
	}
	n.mount.describe(info, &out.Attr)
	return 0
}

func (h *handle) Write(_ context.Context, b []byte, offset int64) (uint32, syscall.Errno) {
	if h.wrote == nil {
		return 0, syscall.EBADF
	}
	defer h.wrote()
	h.dirty.Store(true)
	n, err := h.opened.writeAt(b, offset)
	return uint32(n), errno(err)
}

// Flush is called when a descriptor of the file is closed. Others may stay open.
func (h *handle) Flush(context.Context) syscall.Errno {
	if !h.dirty.Swap(false) {
		return 0
	}
	return errno(h.opened.flush())
}

// Fsync makes sure of no more than Flush: SFTP as the server has it knows nothing else.
func (h *handle) Fsync(ctx context.Context, _ uint32) syscall.Errno { return h.Flush(ctx) }
