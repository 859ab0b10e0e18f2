//go:build unix

package control

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// checkPrivate refuses a folder that others than this user may use.
func checkPrivate(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("stat %s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s is not a folder", dir)
	case int(st.Uid) != os.Getuid():
		return fmt.Errorf("%s belongs to uid %d, not to this user", dir, st.Uid)
	case st.Mode&0o077 != 0:
		return fmt.Errorf("%s can be read by others (mode %04o)", dir, st.Mode&0o777)
	}
	return nil
}
