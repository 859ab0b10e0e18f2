package files

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"

	"github.com/pkg/sftp"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// maxOpen bounds the open files and folders of one connection.
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
	tree  *tree
	open  atomic.Int32
	files openFiles
}

// errTooMany is that a connection has maxOpen files and folders open.
var errTooMany = errors.New("too many open files")

// enter counts what is to be opened; call what it returns once that is closed, or was
// not opened.
func (h *handler) enter() (leave func(), err error) {
	leave = sync.OnceFunc(func() { h.open.Add(-1) })
	if h.open.Add(1) > maxOpen {
		leave()
		return nil, errTooMany
	}
	return leave, nil
}

// Fileread opens a file.
func (h *handler) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	leave, err := h.enter()
	if err != nil {
		return nil, err
	}
	f, err := h.tree.open(r.Filepath)
	if err != nil {
		leave()
		return nil, spoken(err)
	}
	return h.files.add(r, &file{File: f, leave: leave}), nil
}

// Filelist opens a folder to be read, or describes what a path leads to.
func (h *handler) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	if r.Method != "List" {
		return h.one(r.Filepath, true)
	}
	leave, err := h.enter()
	if err != nil {
		return nil, err
	}
	l, err := h.tree.list(r.Filepath)
	if err != nil {
		leave()
		return nil, spoken(err)
	}
	return &list{listing: l, leave: leave}, nil
}

// list is a folder that is counted while it is open. It is read from the beginning to the
// end, whatever offsets are asked for: the server counts what it has got.
type list struct {
	mu sync.Mutex
	*listing
	leave func()
}

func (l *list) ListAt(to []fs.FileInfo, _ int64) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	piece, err := l.next(len(to))
	for i, info := range piece {
		to[i] = identified{info}
	}
	return len(piece), spoken(err)
}

func (l *list) Close() error {
	l.leave()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close()
	return nil
}

// Lstat describes what a path names.
func (h *handler) Lstat(r *sftp.Request) (sftp.ListerAt, error) { return h.one(r.Filepath, false) }

func (h *handler) one(name string, follow bool) (sftp.ListerAt, error) {
	var info fs.FileInfo
	var err error
	if f := h.files.get(name); f != nil {
		info, err = f.Stat()
	} else {
		info, err = h.tree.stat(name, follow)
	}
	if err != nil {
		return nil, spoken(err)
	}
	return listed{identified{info}}, nil
}

// Readlink returns where a link leads.
func (h *handler) Readlink(name string) (string, error) {
	to, err := h.tree.readlink(path.Clean(name))
	return to, spoken(err)
}

// listed is what is known of one file.
type listed struct{ fs.FileInfo }

func (l listed) ListAt(to []fs.FileInfo, offset int64) (int, error) {
	if offset > 0 || len(to) == 0 {
		return 0, io.EOF
	}
	to[0] = l.FileInfo
	return 1, io.EOF
}

// identified is a FileInfo with the file's identity.
type identified struct{ fs.FileInfo }

// Extended implements sftp.FileInfoExtendedData.
func (i identified) Extended() []sftp.StatExtended {
	if id := identity(i.FileInfo); id != "" {
		return []sftp.StatExtended{{ExtType: api.FileIdentity, ExtData: id}}
	}
	return nil
}

// spoken is an error as the protocol has it: those that it has no code for have their
// names.
func spoken(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return sftp.ErrSSHFxNoSuchFile
	case errors.Is(err, fs.ErrPermission):
		return sftp.ErrSSHFxPermissionDenied
	}
	if name := api.FileErrorName(err); name != "" {
		return errors.New(name)
	}
	return err
}
