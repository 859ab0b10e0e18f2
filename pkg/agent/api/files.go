package api

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
)

// MaxRead is how much one answer of ServiceFiles carries, in bytes: what a kernel reads at
// once through FUSE. SFTP itself promises only 32 KiB.
const MaxRead = 128 << 10

// FileIdentity is the name of an extended attribute of files over ServiceFiles: what tells
// one from others that have been at its path, an opaque text.
const FileIdentity = "identity@kubectl-tele"

// FileFlush is the name of an extended attribute that is set, to any value, on an open file
// over ServiceFiles to learn of errors that a file system tells when a file is closed. The
// file stays open.
const FileFlush = "flush@kubectl-tele"

// fileErrors are the errors of files that SFTP has no code for. Over ServiceFiles they are
// its code FAILURE with their names as the text.
var fileErrors = map[string]syscall.Errno{
	"EBUSY": syscall.EBUSY, "EDQUOT": syscall.EDQUOT, "EEXIST": syscall.EEXIST, "EFBIG": syscall.EFBIG, "EINVAL": syscall.EINVAL, "EISDIR": syscall.EISDIR,
	"ELOOP": syscall.ELOOP, "ENAMETOOLONG": syscall.ENAMETOOLONG, "ENOSPC": syscall.ENOSPC, "ENOTDIR": syscall.ENOTDIR, "ENOTEMPTY": syscall.ENOTEMPTY,
	"EROFS": syscall.EROFS, "ETXTBSY": syscall.ETXTBSY, "EXDEV": syscall.EXDEV,
}

// FileErrorName returns the name by which ServiceFiles tells an error; "" if it has none.
func FileErrorName(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return ""
	}
	for name, is := range fileErrors {
		if is == errno {
			return name
		}
	}
	return ""
}

// FileError returns the error of a name.
func FileError(name string) (errno syscall.Errno, ok bool) {
	errno, ok = fileErrors[name]
	return errno, ok
}

// Volume is a volume of the pod that an agent has.
type Volume struct {
	Here  string // where the agent has it
	Path  string // where the app has it
	Write bool   // it may be changed
}

// String returns the volume as HERE:PATH, or HERE:PATH:rw.
func (v Volume) String() string {
	s := v.Here + ":" + v.Path
	if v.Write {
		s += writable
	}
	return s
}

const writable = ":rw"

// ParseVolume reads HERE:PATH or HERE:PATH:rw, with two clean absolute paths; Kubernetes
// allows no colon in one.
func ParseVolume(s string) (Volume, error) {
	paths, write := strings.CutSuffix(s, writable)
	here, there, ok := strings.Cut(paths, ":")
	for _, p := range []string{here, there} {
		if ok = ok && path.IsAbs(p) && path.Clean(p) == p && !strings.Contains(p, ":"); !ok {
			return Volume{}, fmt.Errorf("volume %q is not HERE:PATH", s)
		}
	}
	return Volume{Here: here, Path: there, Write: write}, nil
}

// SocketRequest asks for a connection to a UNIX socket.
type SocketRequest struct {
	Path string `json:"path"` // where the app has it
}
