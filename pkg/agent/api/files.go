package api

import (
	"fmt"
	"path"
	"strings"
)

// MaxRead is how much one answer of ServiceFiles carries, in bytes: what a kernel reads at
// once through FUSE. SFTP itself promises 32 KiB alone.
const MaxRead = 128 << 10

// FileIdentity is the name of an extended attribute of files over ServiceFiles: what tells
// one from others that have been at its path, an opaque text.
const FileIdentity = "identity@kubectl-tele"

// Volume is a volume of the pod that an agent has.
type Volume struct {
	Here string // where the agent has it
	Path string // where the app has it
}

// String returns the volume as HERE:PATH.
func (v Volume) String() string { return v.Here + ":" + v.Path }

// ParseVolume reads HERE:PATH, two clean absolute paths; Kubernetes allows no colon in one.
func ParseVolume(s string) (Volume, error) {
	here, there, ok := strings.Cut(s, ":")
	for _, p := range []string{here, there} {
		if ok = ok && path.IsAbs(p) && path.Clean(p) == p && !strings.Contains(p, ":"); !ok {
			return Volume{}, fmt.Errorf("volume %q is not HERE:PATH", s)
		}
	}
	return Volume{Here: here, Path: there}, nil
}

// SocketRequest asks for a connection to a UNIX socket.
type SocketRequest struct {
	Path string `json:"path"` // where the app has it
}
