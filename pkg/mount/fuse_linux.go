package mount

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	iofs "io/fs"
	"log"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/pkg/sftp"
	"golang.org/x/sys/unix"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// unmounter is the program that mounts, and takes mounts away, for who is not root.
const unmounter = "fusermount3"

// available returns an error if this machine lacks what it takes.
func available() error {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return hint.With(err, "FUSE is needed, which this kernel or container does not have")
	}
	if _, err := exec.LookPath(unmounter); err != nil && os.Geteuid() != 0 {
		return hint.With(err, "install fuse3, which has it")
	}
	return nil
}

func (m *Mount) mount() error {
	options := &fs.Options{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Logger: log.New(quiet{m}, "", 0)}
	for _, timeout := range []**time.Duration{&options.EntryTimeout, &options.AttrTimeout} {
		*timeout = new(fresh)
	}
	options.FsName, options.Name = source(), fsName
	options.DisableXAttrs = true
	options.NullPermissions = true // what nobody may read there, nobody may read here
	options.MountOptions.Logger = options.Logger
	if os.Geteuid() == 0 {
		options.DirectMountStrict = true
		options.DirectMountFlags = unix.MS_NOSUID | unix.MS_NODEV
		if !m.cfg.Write {
			options.DirectMountFlags |= unix.MS_RDONLY
		}
	} else if !m.cfg.Write {
		options.Options = []string{"ro"} // nosuid and nodev are always set
	}
	server, err := fs.Mount(m.cfg.Dir, &node{mount: m}, options)
	if err != nil {
		return hint.With(err, "FUSE is needed: /dev/fuse, which this user may open, and the package fuse3")
	}
	m.server = server
	return nil
}

// quiet logs what the library has to say.
type quiet struct{ m *Mount }

func (q quiet) Write(b []byte) (int, error) {
	q.m.cfg.Log.Debug("files", "dir", q.m.cfg.Dir, "fuse", strings.TrimSpace(string(b)))
	return len(b), nil
}

// node is a file or folder. What is at its path may be another one by now.
type node struct {
	fs.Inode
	mount    *Mount
	identity string // of a file, as identityOf says
	socket   bool   // it is a link to a listener that stands for a socket
}

var (
	_ fs.NodeLookuper   = (*node)(nil)
	_ fs.NodeGetattrer  = (*node)(nil)
	_ fs.NodeReaddirer  = (*node)(nil)
	_ fs.NodeReadlinker = (*node)(nil)
	_ fs.NodeOpener     = (*node)(nil)
	_ fs.FileReader     = (*handle)(nil)
	_ fs.FileReleaser   = (*handle)(nil)
)

// The contexts are not looked at: they end with signals that Go sends itself, too, and a
// program that is interrupted in a read of a file does not expect it to fail.

// path is where the node was found. That of one which is known to be gone is a path that
// nothing has.
func (n *node) path() string { return "/" + n.Path(n.Root()) }

func (n *node) Lookup(_ context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	path := join(n.path(), name)
	info, err := n.mount.stat(path)
	if err != nil {
		return nil, errno(err)
	}
	return n.found(path, info, out), 0
}

// found is the node of a file that is below this one.
func (n *node) found(path string, info iofs.FileInfo, out *fuse.EntryOut) *fs.Inode {
	n.mount.describe(info, &out.Attr)
	_, socket := info.(linked)
	return n.NewInode(context.Background(), &node{mount: n.mount, identity: identityOf(info), socket: socket}, fs.StableAttr{Mode: out.Mode & syscall.S_IFMT, Ino: n.mount.ino(path, info)})
}

// ino is the inode number of a file: the same whenever it is looked up, so that programs
// know it again, and another once it was replaced.
func (m *Mount) ino(path string, info iofs.FileInfo) uint64 {
	const root = 1 // 0 is none, and the last is the library's own
	what := identityOf(info)
	if _, socket := info.(linked); socket { // the number of one may be used for a link again
		what += " socket"
	}
	return min(max(maphash.String(m.seed, what+path), root+1), math.MaxUint64-1)
}

func (n *node) Getattr(_ context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	info, err := n.stat(f)
	if err != nil {
		return errno(err)
	}
	n.mount.describe(info, &out.Attr)
	return 0
}

// stat describes the node: where it is open, the open file, and otherwise what is at its
// path, unless that is another.
func (n *node) stat(f fs.FileHandle) (info iofs.FileInfo, err error) {
	if h, ok := f.(*handle); ok {
		if info, err = h.opened.stat(); err == nil && identityOf(info) == n.identity {
			return info, nil
		}
	}
	info, err = n.mount.stat(n.path())
	if errors.Is(err, iofs.ErrNotExist) || err == nil && identityOf(info) != n.identity {
		err = syscall.ESTALE // the kernel looks up the path again
	}
	return info, err
}

func (m *Mount) stat(name string) (iofs.FileInfo, error) {
	if info := m.recent.get(name); info != nil {
		return info, nil
	}
	info, err := m.remote.lstat(name)
	return m.local.seen(info), err
}

func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	dir := n.path()
	all, err := n.mount.remote.list(dir)
	if err != nil {
		return nil, errno(err)
	}
	for i := range all {
		all[i] = n.mount.local.seen(all[i])
	}
	n.mount.recent.put(dir, all)
	entries := make([]fuse.DirEntry, 0, len(all))
	for _, info := range all {
		var attr fuse.Attr
		n.mount.describe(info, &attr)
		entries = append(entries, fuse.DirEntry{Name: info.Name(), Mode: attr.Mode, Ino: n.mount.ino(join(dir, info.Name()), info)})
	}
	return fs.NewListDirStream(entries), 0
}

func (n *node) Readlink(context.Context) ([]byte, syscall.Errno) {
	if n.socket {
		to, err := n.mount.local.of(n.path())
		return []byte(to), errno(err)
	}
	to, err := n.mount.remote.readlink(n.path())
	return []byte(to), errno(err)
}

// Open opens the node, and nothing else: the kernel shows all who have it open the same.
func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	path, same := n.path(), make(chan bool, 1)
	go func() { // at the same time, since programs open many files
		info, err := n.mount.remote.lstat(path)
		same <- err == nil && identityOf(info) == n.identity
	}()
	h, fuseFlags, failed := n.open(path, flags)
	switch is := <-same; {
	case failed != 0:
		return nil, 0, failed
	case !is:
		h.opened.close()
		n.mount.recent.forget()
		return nil, 0, syscall.ESTALE // the kernel looks up the path again
	}
	return h, fuseFlags, 0
}

func (n *node) open(path string, flags uint32) (*handle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return n.openWrite(path, flags)
	}
	o, err := n.mount.remote.openFile(path, os.O_RDONLY)
	if err != nil {
		return nil, 0, errno(err)
	}
	return &handle{opened: o}, 0, 0
}

// handle is an open file.
type handle struct {
	opened *opened
	wrote  func()      // nil: it is only open to be read
	dirty  atomic.Bool // it was written since the last flush
}

func (h *handle) Read(_ context.Context, dest []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	b := make([]byte, len(dest)) // dest is used again while a late answer may still come
	n, err := h.opened.readAt(b, offset)
	if isLost(err) {
		return nil, syscall.ESTALE
	}
	return fuse.ReadResultData(b[:n]), errno(err)
}

func (h *handle) Release(context.Context) syscall.Errno {
	h.opened.close()
	return 0
}

// describe fills in what a program sees of a file.
func (m *Mount) describe(info iofs.FileInfo, attr *fuse.Attr) {
	bits := uint32(info.Mode().Perm())
	mode := (bits | bits<<3 | bits<<6) & 0o500 // whoever may read it there is the user here
	if m.cfg.Write {
		mode |= bits & 0o200
	}
	switch info.Mode().Type() {
	case iofs.ModeDir:
		mode |= syscall.S_IFDIR
	case iofs.ModeSymlink:
		mode |= syscall.S_IFLNK | 0o777
	case iofs.ModeNamedPipe:
		mode |= syscall.S_IFIFO
	case iofs.ModeSocket:
		mode |= syscall.S_IFSOCK
	case iofs.ModeDevice:
		mode |= syscall.S_IFBLK
	case iofs.ModeDevice | iofs.ModeCharDevice:
		mode |= syscall.S_IFCHR
	default:
		mode |= syscall.S_IFREG
	}
	at := info.ModTime()
	attr.Mode, attr.Size, attr.Nlink = mode, uint64(info.Size()), 1
	attr.SetTimes(&at, &at, &at)
	attr.Blocks = (attr.Size + 511) / 512
	attr.Owner = fuse.Owner{Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())}
}

func errno(err error) syscall.Errno {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, iofs.ErrNotExist):
		return syscall.ENOENT
	case errors.Is(err, iofs.ErrPermission), errors.Is(err, sftp.ErrSSHFxPermissionDenied):
		return syscall.EACCES
	case isLost(err), errors.Is(err, syscall.ESTALE):
		return syscall.ESTALE
	}
	if named, ok := namedError(err); ok {
		return named
	}
	return syscall.EIO
}

// detach takes a mount away at once, whoever uses it.
func detach(dir string) error {
	if os.Geteuid() == 0 {
		return unix.Unmount(dir, unix.MNT_DETACH)
	}
	out, err := exec.Command(unmounter, "-u", "-z", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", unmounter, err, strings.TrimSpace(string(out)))
	}
	return nil
}
