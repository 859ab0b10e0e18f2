//go:build unix

package files

import (
	"fmt"
	"io/fs"
	"syscall"
)

// identity is what tells a file from others of the pod that have been at its path.
func identity(info fs.FileInfo) string {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	}
	return ""
}
