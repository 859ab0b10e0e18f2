package files

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/pkg/sftp"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// openFiles are the open files of a connection, by names that they have among themselves.
type openFiles struct {
	mu    sync.Mutex
	last  int
	files map[string]*file
}

// file is an open file.
type file struct {
	*os.File
	write   bool   // it may be changed
	appends bool   // what is written goes to its end
	leave   func() // called when it is closed
}

// add takes in the file that a request has opened. The server asks about a handle by the
// path of the request that opened it, which may lead to another file by then: the path
// becomes a name that no path can be.
func (o *openFiles) add(r *sftp.Request, f *file) *file {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	name := fmt.Sprintf("/\x00%d", o.last)
	if o.files == nil {
		o.files = map[string]*file{}
	}
	o.files[name], r.Filepath = f, name
	leave := f.leave
	f.leave = func() {
		o.mu.Lock()
		delete(o.files, name)
		o.mu.Unlock()
		leave()
	}
	return f
}

// get returns the open file of that name; nil if it is a path.
func (o *openFiles) get(name string) *file {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.files[name]
}

func (f *file) Close() error {
	f.leave()
	return spoken(f.File.Close())
}

// WriteAt writes at the offset, or at the end.
func (f *file) WriteAt(b []byte, offset int64) (n int, err error) {
	if f.appends {
		n, err = f.Write(b)
	} else {
		n, err = f.File.WriteAt(b, offset)
	}
	return n, spoken(err)
}

// change changes its size and its mode, and flushes it.
func (f *file) change(which sftp.FileAttrFlags, to *sftp.FileStat) error {
	if !f.write || which.UidGid || which.Acmodtime {
		return fs.ErrPermission
	}
	if which.Size {
		if err := f.Truncate(int64(to.Size)); err != nil {
			return err
		}
	}
	if which.Permissions {
		if err := f.Chmod(to.FileMode().Perm()); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(to.Extended, func(e sftp.StatExtended) bool { return e.ExtType == api.FileFlush }) {
		return flush(f.File)
	}
	return nil
}
