package osdns

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// ErrInUse is returned while another process has DNS settings in force.
var ErrInUse = errors.New("the DNS settings of this machine are in use by another session")

// ChangedError says that files were changed by somebody else while ours were
// in force. What they wrote stays; nothing of ours does.
type ChangedError struct{ Paths []string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s was changed by somebody else meanwhile: what they wrote stays", strings.Join(e.Paths, ", "))
}

// Hint is for the case that what they wrote was meant for another network.
func (e *ChangedError) Hint() string {
	return "if names do not resolve, reconnect the network or VPN that wrote it"
}

// hintError is an error with something to do about it.
type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }
func (e *hintError) Hint() string  { return e.hint }

// explain adds a hint to errors of writing path.
func explain(err error, path string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EBUSY):
		return &hintError{err, fmt.Sprintf("cluster names need a writable %s: mount it read-write, or remove its immutable flag (chattr -i)", path)}
	case errors.Is(err, fs.ErrPermission):
		return &hintError{err, fmt.Sprintf("only root can write %s", path)}
	}
	return err
}
