//go:build !linux

package mount

import (
	"errors"
	"fmt"

	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

func (m *Mount) mount() error { return available() }

func available() error {
	return hint.With(errors.New("files are shown on Linux only"), "kubectl tele mount WORKLOAD DIR --copy copies them, and so does intercept --mount-copy DIR")
}

func folderOf(pid int) string { return fmt.Sprintf("kubectl-tele-%d", pid) }

func detach(string) error { return nil }

// ClearStale does nothing.
func ClearStale() (cleared []string, err error) { return nil, nil }
