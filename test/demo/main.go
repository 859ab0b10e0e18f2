//go:build linux

// Command demo tells what kubectl tele is for, on a real cluster that it boots
// (or uses, if one is up). It exits non-zero if any step does not do what it
// says.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// demoLimit covers building Kubernetes once on a slow machine.
const demoLimit = time.Hour

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, demoLimit)
	err := run(ctx)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return fmt.Errorf("the embedded cluster needs root (network namespaces, containerd): sudo make demo")
	}
	dir, err := os.MkdirTemp("", "tele-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	world, err := rig.New(ctx, rig.Options{Dir: dir, Log: func(line string) { fmt.Fprintln(os.Stderr, "  ...", line) }})
	if err != nil {
		return err
	}
	return tell(ctx, world)
}
