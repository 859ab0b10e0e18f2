//go:build linux || darwin

package helper

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// checkFolder refuses a folder that others than uid could have put something
// into. A symbolic link is not followed.
func checkFolder(dir string, uid int) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("folder %s: not a folder", dir)
	}
	if mode := info.Mode().Perm(); mode != 0o700 {
		return fmt.Errorf("folder %s: mode %#o, want 0700", dir, mode)
	}
	return checkOwner("folder", dir, info, uid)
}

func checkSocket(path string, uid int) error {
	if !filepath.IsAbs(path) || path != filepath.Clean(path) {
		return fmt.Errorf("socket %s: not a clean absolute path", path)
	}
	if err := checkFolder(filepath.Dir(path), uid); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("socket %s: not a socket", path)
	}
	return checkOwner("socket", path, info, uid)
}

func checkOwner(what, path string, info os.FileInfo, uid int) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s %s: owner unknown", what, path)
	}
	if int(stat.Uid) != uid {
		return fmt.Errorf("%s %s: belongs to uid %d, want %d", what, path, stat.Uid, uid)
	}
	return nil
}

func checkPeer(c *net.UnixConn, uid int) error {
	got, err := peerUID(c)
	if err != nil {
		return err
	}
	if got != uid {
		return fmt.Errorf("peer is uid %d, want %d", got, uid)
	}
	return nil
}
