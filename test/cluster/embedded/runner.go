package embedded

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// runner runs a command and returns its standard output. An error carries the
// command and what it said.
type runner func(ctx context.Context, stdin string, argv ...string) (string, error)

func run(ctx context.Context, stdin string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String() + stdout.String())
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, said)
	}
	return stdout.String(), nil
}
