package osdns

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const runLimit = 10 * time.Second

// run is the Runner of a real machine.
func run(name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return out, err
}
