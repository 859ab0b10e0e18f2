package session

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Identity is what tells one session from another: one laptop, one context,
// one namespace, one user.
type Identity struct {
	Context   string `json:"context"`
	Namespace string `json:"namespace"`
	Server    string `json:"server"`
	// User is the kubeconfig's name for the credentials, or the impersonated
	// user.
	User string `json:"user"`
}

// ID is short because it is part of unix socket paths (104 bytes on macOS).
func (i Identity) ID() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{i.Context, i.Namespace, i.Server, i.User}, "\x00")))
	return hex.EncodeToString(sum[:5])
}

// BaseDir is the folder of all sessions of this user, made with mode 0700 if
// missing. It is refused if somebody else could have put things there.
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

// Dir is the folder of the session with the given ID; it need not exist.
func Dir(id string) (string, error) {
	base, err := BaseDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(base, id), nil
}

// Files of a session's folder.
func controlSocket(dir string) string { return filepath.Join(dir, "control.sock") }
func pidFile(dir string) string       { return filepath.Join(dir, "pid") }
func lockFile(dir string) string      { return filepath.Join(dir, "lock") }

// LogFile is where the background session with this folder logs.
func LogFile(dir string) string { return filepath.Join(dir, "session.log") }

// IDs lists the sessions that have a folder, running or not.
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
