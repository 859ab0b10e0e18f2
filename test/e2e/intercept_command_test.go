//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// freePort is a port of the laptop that nobody listens on.
func freePort(t *testing.T, desk *rig.Desk) string {
	t.Helper()
	l := listen(t, desk)
	defer func() { _ = l.Close() }()
	return portOf(l)
}

// TestInterceptCommand runs the handler as part of the command.
func TestInterceptCommand(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("icmd", manifests.Options{
		Replicas: 1, Version: "v7", Env: []corev1.EnvVar{{Name: "GREETING", Value: "two words"}},
	})
	deploy(t, app)
	desk := newDesk(t)
	name := app.Deployment.Name
	before := stateOf(t, name, name)
	url := serviceURL(t, name)

	t.Run("environment and exit code", func(t *testing.T) {
		l := startLoop(t, url, "-fresh")
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		result, err := rig.Run(desk.Tele(ctx, "intercept", name, "--port", freePort(t, desk), "--",
			"sh", "-c", `echo "$GREETING/$VERSION/$TELE_WORKLOAD"; exit 7`))
		if err != nil || result.Code != 7 || !strings.Contains(result.Stdout, "two words/v7/"+name+"\n") {
			t.Errorf("code %d, %v\n%s%s", result.Code, err, result.Stdout, result.Stderr)
		}
		if st := sessionsOf(t, desk); len(st) > 0 && len(st[0].Intercepts) > 0 {
			t.Errorf("the intercept outlives its command: %+v", st)
		}
		l.stop(t) // nobody listened at the laptop: the app answered
		if after := stateOf(t, name, name); after != before {
			t.Errorf("a difference is left:\nbefore %s\nafter %s", before, after)
		}
		nothingLeft(t, name)
	})

	t.Run("interrupt", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		port := freePort(t, desk)
		cmd := desk.Tele(ctx, "intercept", name, "--port", port, "--", world.AppsBinary, "http", "-addr", "127.0.0.1:"+port)
		code, said := interrupted(t, cmd, func() {
			// It has the container's environment, and so its pod's name, too.
			poll(t, "the handler answers", func(context.Context) error {
				c := call(t, url)
				var e api.Echo
				if err := json.Unmarshal([]byte(c.Body), &e); err != nil {
					return err
				}
				if e.Local != "127.0.0.1:"+port || e.Version != "v7" {
					return fmt.Errorf("%s at %s answers", e.Pod, e.Local)
				}
				return nil
			})
		})
		if code == 0 || strings.Contains(said, "error") {
			t.Errorf("code %d: %s", code, said)
		}
		if after := stateOf(t, name, name); after != before {
			t.Errorf("a difference is left:\nbefore %s\nafter %s", before, after)
		}
		nothingLeft(t, name)
	})

	t.Run("left from elsewhere", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		running := filepath.Join(t.TempDir(), "running")
		type ended struct {
			result rig.Result
			err    error
		}
		done := make(chan ended, 1)
		go func() {
			result, err := rig.Run(desk.Tele(ctx, "intercept", name, "--port", freePort(t, desk), "--",
				"sh", "-c", `trap 'exit 5' TERM; touch "$0"; while :; do sleep 0.1; done`, running))
			done <- ended{result, err}
		}()
		poll(t, "the handler runs", func(context.Context) error {
			_, err := os.Stat(running)
			return err
		})
		tele(t, desk, "leave", name)
		e := <-done
		if e.err != nil || e.result.Code != 5 || !strings.Contains(e.result.Stderr, "ended from elsewhere") {
			t.Errorf("code %d, %v\n%s%s", e.result.Code, e.err, e.result.Stdout, e.result.Stderr)
		}
		nothingLeft(t, name)
	})

	t.Run("no such command", func(t *testing.T) {
		before := stateOf(t, name, name)
		result, err := rig.Run(desk.Tele(t.Context(), "intercept", name, "--", "/nonexistent/handler"))
		if err != nil || result.Code == 0 || !strings.Contains(result.Stderr, "run the handler /nonexistent/handler") {
			t.Errorf("code %d: %s", result.Code, result.Stderr)
		}
		if after := stateOf(t, name, name); after != before {
			t.Errorf("the Deployment was touched:\nbefore %s\nafter %s", before, after)
		}
	})

	t.Run("no handler", func(t *testing.T) {
		port := freePort(t, desk)
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		running := filepath.Join(t.TempDir(), "running")
		cmd := desk.Tele(ctx, "intercept", name, "--port", port, "--", "sh", "-c", `touch "$0"; exec sleep 1000`, running)
		interrupted(t, cmd, func() {
			poll(t, "the handler runs", func(context.Context) error {
				_, err := os.Stat(running)
				return err
			})
			poll(t, "status says that the handler is not reached", func(context.Context) error {
				call(t, url)
				if said := tele(t, desk, "status"); !strings.Contains(said, port+": active\n    handler not reached, the app answers: ") {
					return errors.New(said)
				}
				return nil
			})
		})
		nothingLeft(t, name)
	})

	t.Run("to", func(t *testing.T) {
		// Another address of the laptop stands for another machine.
		h, err := desk.Listen(t.Context(), "tcp", "198.18.0.53:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(echo), ReadHeaderTimeout: time.Minute}
		var wg sync.WaitGroup
		wg.Go(func() { _ = server.Serve(h) })
		defer wg.Wait()
		defer func() { _ = server.Close() }()
		l := startLoop(t, url, "-fresh")
		timed(t, desk, "intercept", name, "--to", net.JoinHostPort("198.18.0.53", portOf(h)))
		l.wait(t, "the other machine", byLaptop)
		timed(t, desk, "leave", name)
		l.stop(t)
		nothingLeft(t, name)
	})
}

// interrupted starts a command in a process group of its own, and sends the
// group what Ctrl-C sends as soon as ready returns.
func interrupted(t *testing.T, cmd *exec.Cmd, ready func()) (code int, said string) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready()
	begin := time.Now()
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	t.Logf("ended %.1f s after Ctrl-C", time.Since(begin).Seconds())
	return cmd.ProcessState.ExitCode(), out.String()
}
