// Command tele-agent runs in a pod; see package agent.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends at once
	code := agent.Command(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
