package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/control"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// spawnLimit bounds the start of the background session up to its socket.
const spawnLimit = 15 * time.Second

// ensureSession returns a client for the session that the flags select. If none
// is running, it is started in the background; args repeat the flags for it.
func (f *factory) ensureSession(ctx context.Context, args []string) (*control.Client, error) {
	p, err := f.place()
	if err != nil {
		return nil, err
	}
	dir, err := control.Dir(p.ID())
	if err != nil {
		return nil, err
	}
	c := control.NewClient(dir)
	stay := func() error {
		ctx, cancel := context.WithTimeoutCause(ctx, statusLimit, fmt.Errorf("the running session does not answer within %s", statusLimit))
		defer cancel()
		return c.Stay(ctx)
	}
	err = stay()
	var version *control.VersionError
	switch {
	case err == nil:
		return c, nil
	case errors.As(err, &version):
		return nil, err
	case !errors.Is(err, control.ErrNotRunning):
		return nil, hint.With(err, "end it: kubectl tele quit --force")
	}
	err = spawn(ctx, append([]string{sessionCommand}, args...))
	// Another command may have been a moment faster: its session is as good.
	if err != nil && stay() != nil {
		return nil, fmt.Errorf("start the background session: %w", err)
	}
	return c, nil
}

// spawn starts this program as a background process and returns when it says
// that it is ready, or with what it says instead.
func spawn(ctx context.Context, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, args...)
	cmd.SysProcAttr = detached()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	type said struct {
		event api.Event
		err   error
	}
	first := make(chan said, 1)
	go func() {
		line, err := bufio.NewReader(out).ReadBytes('\n')
		s := said{err: err}
		if err == nil {
			s.err = json.Unmarshal(line, &s.event)
		}
		first <- s
	}()
	limit := time.NewTimer(spawnLimit)
	defer limit.Stop()
	select {
	case s := <-first:
		switch {
		case s.err != nil:
			_ = cmd.Wait()
			return fmt.Errorf("it ended without a word: %w", s.err)
		case s.event.Error != nil:
			_ = cmd.Wait()
			return s.event.Error
		}
		return cmd.Process.Release()
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-limit.C:
		err = fmt.Errorf("not ready within %s", spawnLimit)
	}
	_ = cmd.Process.Kill()
	<-first
	_ = cmd.Wait()
	return err
}

// startHelper starts the privileged helper for the session's socket and returns
// when it runs on its own.
func startHelper(ctx context.Context, socket string) error {
	return asRoot(ctx, helperCommand, "--socket", socket, "--uid", strconv.Itoa(os.Getuid()))
}

// cleanUpHelper undoes what a helper of this user that was killed has left on
// this machine.
func cleanUpHelper(ctx context.Context) error {
	return asRoot(ctx, helperCommand, "--clean-up", "--uid", strconv.Itoa(os.Getuid()))
}

// asRoot runs this program as root, through sudo unless this process is root
// already. The one line on its stdout says why it failed.
func asRoot(ctx context.Context, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	argv := append([]string{self}, args...)
	if os.Geteuid() != 0 {
		sudo, err := exec.LookPath("sudo")
		if err != nil {
			return hint.With(errors.New("connect needs root for its network device, and there is no sudo"),
				"run it as root, or use `kubectl tele intercept`, which needs no root")
		}
		argv = append([]string{sudo, "--prompt=[sudo] kubectl tele makes a network device; password for %p: ", "--"}, argv...)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, &out, os.Stderr
	if err := cmd.Run(); err != nil {
		var said api.Event
		if json.Unmarshal(out.Bytes(), &said) == nil && said.Error != nil {
			err = said.Error
		}
		return hint.With(fmt.Errorf("start the privileged helper: %w", err),
			"connect needs root for its network device alone; `kubectl tele intercept` works without")
	}
	return nil
}
