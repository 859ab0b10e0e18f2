package tun

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// commandLimit bounds one OS command: each of them changes one kernel table.
const commandLimit = 10 * time.Second

// runner runs one OS command and returns what it printed.
type runner interface {
	Run(argv []string) ([]byte, error)
}

// execRunner runs commands for real, from the system's own folders only.
type execRunner struct{}

func (execRunner) Run(argv []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/sbin:/usr/sbin:/bin:/usr/bin", "LC_ALL=C"}
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(talk.String()))
	}
	return out.Bytes(), nil
}

func run(r runner, argv []string) error {
	_, err := r.Run(argv)
	return err
}
