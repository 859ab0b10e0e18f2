package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
)

// BaseDir returns the folder of all sessions of this user, made with mode 0700 if
// it is missing. It fails if somebody else could have put things there.
func BaseDir() (string, error) {
	parent := os.Getenv("XDG_RUNTIME_DIR")
	dir := filepath.Join(parent, "kubectl-tele")
	if parent == "" {
		dir = filepath.Join(os.TempDir(), "kubectl-tele-"+strconv.Itoa(os.Getuid()))
		if runtime.GOOS == "windows" {
			cache, err := os.UserCacheDir()
			if err != nil {
				return "", err
			}
			dir = filepath.Join(cache, "kubectl-tele")
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := checkPrivate(dir); err != nil {
		return "", err
	}
	return dir, nil
}

// Dir returns the folder of the session with the given ID; it need not exist.
func Dir(id string) (string, error) {
	base, err := BaseDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(base, id), nil
}

// IDs returns the IDs of the sessions that have a folder, running or not.
func IDs() ([]string, error) {
	base, err := BaseDir()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(base)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// LogFile returns the log of the background session with this folder.
func LogFile(dir string) string { return filepath.Join(dir, "session.log") }

// The other files of a session's folder.
func controlSocket(dir string) string { return filepath.Join(dir, "control.sock") }
func pidFile(dir string) string       { return filepath.Join(dir, "pid") }
func lockFile(dir string) string      { return filepath.Join(dir, "lock") }
