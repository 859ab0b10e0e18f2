package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/control"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// handlerGrace is how long a handler may take to end when this command is
// interrupted.
const handlerGrace = 10 * time.Second

// runCommand intercepts for as long as the command runs.
func (o *interceptOptions) runCommand(ctx context.Context, client *control.Client, progress *printer) error {
	holdCtx, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	started := make(chan api.Event, 1)
	held := make(chan error, 1)
	go func() {
		_, err := client.Intercept(holdCtx, o.spec, func(e api.Event) {
			if len(e.Intercepts) > 0 {
				started <- e
				return
			}
			progress.event(e)
		})
		held <- err
	}()
	var active api.Event
	select {
	case active = <-started:
	case err := <-held:
		return err
	case <-ctx.Done():
		release()
		err := <-held
		tellInterrupted(ctx, progress)
		return errors.Join(context.Cause(ctx), err)
	}
	env, err := o.env.take(active.Env, o.spec.Dir, progress)
	if err != nil {
		return errors.Join(err, client.Leave(context.WithoutCancel(ctx), leaveOf(active.Intercepts), progress.event))
	}
	first := active.Intercepts[0]
	progress.pause()
	if err := o.print(active.Intercepts); err != nil {
		return err
	}
	runCtx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		watch sync.WaitGroup
		ended = make(chan struct{}) // the handler has
		gone  bool                  // the intercept has, before
	)
	watch.Go(func() {
		select {
		case err := <-held:
			gone = true
			text := fmt.Sprintf("the intercept of %s has been ended from elsewhere, and so is its handler", first.Workload)
			if err != nil {
				text += ": " + err.Error()
			}
			progress.event(api.Event{Text: text, Warning: true})
			stop()
		case <-ended:
		}
	})
	cmd := exec.CommandContext(runCtx, o.command[0], o.command[1:]...)
	cmd.Env = append(append(os.Environ(), env...), "TELE_INTERCEPT_ID="+first.ID, "TELE_WORKLOAD="+nameOf(first.Workload))
	if first.Dir != "" {
		cmd.Env = append(cmd.Env, "TELE_ROOT="+first.Dir)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = o.f.In, o.f.Out, o.f.ErrOut
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = handlerGrace
	runErr := cmd.Run()
	close(ended)
	watch.Wait()
	if gone {
		if errors.Is(runErr, context.Canceled) {
			runErr = context.Cause(ctx) // the handler has ended well
		}
		return handlerResult(o.command[0], runErr)
	}
	if err := client.Leave(context.WithoutCancel(ctx), leaveOf(active.Intercepts), progress.event); err != nil {
		return errors.Join(err, runErr)
	}
	if runErr == nil {
		// Ctrl-C reaches the handler too, which may have ended well before us.
		runErr = context.Cause(ctx)
	}
	release()
	if err := <-held; err != nil && !errors.Is(err, context.Canceled) {
		return errors.Join(err, runErr)
	}
	return handlerResult(o.command[0], runErr)
}

// handlerResult turns the end of a handler into the end of this command.
func handlerResult(name string, err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		code := exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			code = 128 + int(status.Signal())
		}
		return &exitError{code: code}
	}
	return hint.With(fmt.Errorf("run the handler %s: %w", name, err), "the command after -- is run without a shell")
}
