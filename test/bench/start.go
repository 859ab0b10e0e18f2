//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kubectl-tele/kubectl-tele/pkg/session"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// startToFirstAnswer measures from typing the command to the first answer.
func (b *bench) startToFirstAnswer(ctx context.Context, pod string) (Row, error) {
	b.say("time from start to first answer")
	var tele, pf []float64
	for range b.rounds {
		started := time.Now()
		if err := must(b.desk.Tele(ctx, "connect", "--quiet")); err != nil {
			return Row{}, err
		}
		if err := b.reachable(ctx, b.tele); err != nil {
			return Row{}, fmt.Errorf("through connect: %w", err)
		}
		tele = append(tele, time.Since(started).Seconds())
		if err := must(b.desk.Tele(ctx, "quit")); err != nil {
			return Row{}, err
		}
		started = time.Now()
		stop, err := b.portForward(ctx, pod)
		if err != nil {
			return Row{}, err
		}
		pf = append(pf, time.Since(started).Seconds())
		stop()
	}
	row := Row{Name: "start to first answer", Unit: "s", Tele: median(tele), PortForward: median(pf)}
	row.Ratio = row.PortForward / row.Tele
	return row, nil
}

// up starts both programs.
func (b *bench) up(ctx context.Context, pod string) (stop func(), err error) {
	if err := must(b.desk.Tele(ctx, "connect", "--quiet")); err != nil {
		return nil, err
	}
	if err := b.reachable(ctx, b.tele); err != nil {
		return nil, fmt.Errorf("through connect: %w", err)
	}
	return b.portForward(ctx, pod)
}

// portForward starts kubectl port-forward and returns when it answers.
func (b *bench) portForward(ctx context.Context, pod string) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := b.desk.Command(ctx, "alice", "kubectl", "port-forward", "-n", manifests.Namespace, "pod/"+pod, fmt.Sprintf("%d:%d", forwardPort, manifests.AppPort))
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	stop = func() {
		cancel()
		_ = cmd.Wait()
	}
	if err := b.reachable(ctx, b.pf); err != nil {
		stop()
		return nil, fmt.Errorf("through kubectl port-forward: %w", err)
	}
	return stop, nil
}

// deadlines measures what the product promises in seconds: how soon the app
// answers again when the laptop's session is frozen or killed.
func (b *bench) deadlines(ctx context.Context) ([]Figure, error) {
	b.say("fail open")
	handler, err := b.handler(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = handler.Close() }()
	started := time.Now()
	_, port, err := net.SplitHostPort(handler.Addr().String())
	if err != nil {
		return nil, err
	}
	if err := must(b.desk.Tele(ctx, "intercept", "bench", "--port", port, "--quiet")); err != nil {
		return nil, err
	}
	figures := []Figure{{Name: "intercept, first time", Promised: "-", Seconds: time.Since(started).Seconds()}}
	pid, err := b.sessionPID(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.answeredBy(ctx, true); err != nil {
		return nil, err
	}
	for _, fault := range []struct {
		name   string
		signal syscall.Signal
	}{{"session frozen: the app answers after", syscall.SIGSTOP}, {"session killed: the app answers after", syscall.SIGKILL}} {
		started := time.Now()
		if err := syscall.Kill(pid, fault.signal); err != nil {
			return nil, err
		}
		if err := b.answeredBy(ctx, false); err != nil {
			return nil, fmt.Errorf("%s: %w", fault.name, err)
		}
		figures = append(figures, Figure{Name: fault.name, Promised: "5 s", Seconds: time.Since(started).Seconds()})
		if fault.signal == syscall.SIGSTOP {
			if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
				return nil, err
			}
			started = time.Now()
			if err := b.answeredBy(ctx, true); err != nil {
				return nil, fmt.Errorf("after SIGCONT: %w", err)
			}
			figures = append(figures, Figure{Name: "session back: the handler answers after", Promised: "-", Seconds: time.Since(started).Seconds()})
		}
	}
	return figures, must(b.desk.Tele(ctx, "clean", "bench"))
}

const handlerWord = "laptop"

// handler answers at the laptop with a word that the app does not say.
func (b *bench) handler(ctx context.Context) (net.Listener, error) {
	l, err := b.desk.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, handlerWord) }),
		ReadHeaderTimeout: time.Minute,
	}
	go func() { _ = server.Serve(l) }()
	return l, nil
}

// answeredBy polls from inside the cluster until the handler, or the app,
// answers the Service.
func (b *bench) answeredBy(ctx context.Context, laptop bool) error {
	return wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, readyLimit, true, func(ctx context.Context) (bool, error) {
		cmd := b.desk.Rig().Cluster.KubectlCommand(ctx, "admin", "exec", "-n", manifests.Namespace, "deploy/"+clientName, "--", manifests.Binary, "call", "http://bench."+manifests.Namespace)
		result, err := rig.Run(cmd)
		if err != nil || result.Code != 0 {
			return false, err
		}
		return strings.Contains(result.Stdout, `"body": "`+handlerWord+`"`) == laptop, nil
	})
}

func (b *bench) sessionPID(ctx context.Context) (int, error) {
	result, err := rig.Run(b.desk.Tele(ctx, "status", "-o", "json"))
	if err != nil {
		return 0, err
	}
	var status struct {
		Sessions []session.Status `json:"sessions"`
	}
	if err := json.Unmarshal([]byte(result.Stdout), &status); err != nil {
		return 0, fmt.Errorf("read the status: %w", err)
	}
	if len(status.Sessions) != 1 {
		return 0, fmt.Errorf("%d sessions, not one", len(status.Sessions))
	}
	return status.Sessions[0].PID, nil
}

func must(cmd *exec.Cmd) error {
	result, err := rig.Run(cmd)
	if err == nil && result.Code != 0 {
		err = fmt.Errorf("%s: exit code %d\n%s%s", strings.Join(cmd.Args, " "), result.Code, result.Stdout, result.Stderr)
	}
	return err
}
