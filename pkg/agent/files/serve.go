package files

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sync/atomic"

	"github.com/pkg/sftp"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// maxOpen bounds the open files of one connection.
const maxOpen = 1024

// Serve answers on a connection until that ends. It closes the connection.
func Serve(conn io.ReadWriteCloser, volumes []api.Volume) error {
	t := newTree(volumes)
	defer t.close()
	h := &handler{tree: t}
	server := sftp.NewRequestServer(conn, sftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h}, sftp.WithRSMaxTxPacket(api.MaxRead))
	err := server.Serve()
	_ = server.Close()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // the other end is gone
		return nil
	}
	return err
}

// handler answers requests. Paths are absolute and clean: the server makes them so.
type handler struct {
	tree *tree
	open atomic.Int32
}

// Fileread opens a file.
func (h *handler) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	if h.open.Add(1) > maxOpen {
		h.open.Add(-1)
		return nil, errors.New("too many open files")
	}
	f, err := h.tree.open(r.Filepath)
	if err != nil {
		h.open.Add(-1)
		return nil, spoken(err)
	}
	return &file{File: f, open: &h.open}, nil
}

// file is counted while it is open.
type file struct {
	*os.File
	open *atomic.Int32
}

func (f *file) Close() error {
	f.open.Add(-1)
	return f.File.Close()
}

// Filewrite refuses.
func (*handler) Filewrite(*sftp.Request) (io.WriterAt, error) {
	return nil, sftp.ErrSSHFxPermissionDenied
}

// Filecmd refuses.
func (*handler) Filecmd(*sftp.Request) error { return sftp.ErrSSHFxPermissionDenied }

// Filelist describes a folder, or what a path leads to.
func (h *handler) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	if r.Method == "List" {
		all, err := h.tree.list(r.Filepath)
		return listed(all), spoken(err)
	}
	return h.one(r.Filepath, true)
}

// Lstat describes what a path names.
func (h *handler) Lstat(r *sftp.Request) (sftp.ListerAt, error) { return h.one(r.Filepath, false) }

func (h *handler) one(name string, follow bool) (sftp.ListerAt, error) {
	info, err := h.tree.stat(name, follow)
	if err != nil {
		return nil, spoken(err)
	}
	return listed{info}, nil
}

// Readlink returns where a link leads.
func (h *handler) Readlink(name string) (string, error) {
	to, err := h.tree.readlink(path.Clean(name))
	return to, spoken(err)
}

// listed is a list that is known whole.
type listed []fs.FileInfo

func (l listed) ListAt(to []fs.FileInfo, offset int64) (int, error) {
	if offset >= int64(len(l)) {
		return 0, io.EOF
	}
	n := copy(to, l[offset:])
	if n < len(to) {
		return n, io.EOF
	}
	return n, nil
}

// spoken is an error as the protocol has it.
func spoken(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return sftp.ErrSSHFxNoSuchFile
	case errors.Is(err, fs.ErrPermission):
		return sftp.ErrSSHFxPermissionDenied
	}
	return err
}
