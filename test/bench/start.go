//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// startToFirstAnswer measures from typing the command to the first answer.
func (b *stage) startToFirstAnswer(ctx context.Context) (Row, error) {
	b.say(rowStart)
	row := Row{Name: rowStart, Unit: "s", Values: map[Way]float64{}}
	var tele, pf []float64
	for range b.rounds {
		started := time.Now()
		if err := must(b.desk.Tele(ctx, "connect", "--quiet")); err != nil {
			return row, err
		}
		if err := b.reachable(ctx, Tele); err != nil {
			return row, err
		}
		tele = append(tele, time.Since(started).Seconds())
		if err := must(b.desk.Tele(ctx, "quit")); err != nil {
			return row, err
		}
		started = time.Now()
		err := b.portForward(ctx)
		pf = append(pf, time.Since(started).Seconds())
		b.down()
		if err != nil {
			return row, err
		}
	}
	row.Values[Tele], row.Values[PortForward] = quantile(tele, 0.5), quantile(pf, 0.5)
	return row, nil
}

// deadlines measures what the product promises in seconds: how soon the app
// answers again when the laptop's session is frozen or killed.
func (b *stage) deadlines(ctx context.Context) ([]Figure, error) {
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
	if err := must(b.desk.Tele(ctx, "intercept", appName, "--port", port, "--quiet")); err != nil {
		return nil, err
	}
	figures := []Figure{{Name: "intercept, first time", Promised: "-", Seconds: time.Since(started).Seconds()}}
	status, err := b.status(ctx)
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
		if err := syscall.Kill(status.PID, fault.signal); err != nil {
			return nil, err
		}
		if err := b.answeredBy(ctx, false); err != nil {
			return nil, fmt.Errorf("%s: %w", fault.name, err)
		}
		figures = append(figures, Figure{Name: fault.name, Promised: "5 s", Seconds: time.Since(started).Seconds()})
		if fault.signal == syscall.SIGSTOP {
			if err := syscall.Kill(status.PID, syscall.SIGCONT); err != nil {
				return nil, err
			}
			started = time.Now()
			if err := b.answeredBy(ctx, true); err != nil {
				return nil, fmt.Errorf("after SIGCONT: %w", err)
			}
			figures = append(figures, Figure{Name: "session back: the handler answers after", Promised: "-", Seconds: time.Since(started).Seconds()})
		}
	}
	return figures, must(b.desk.Tele(ctx, "clean", appName))
}

const handlerWord = "laptop"

// handler answers at the laptop with a word that the app does not say.
func (b *stage) handler(ctx context.Context) (net.Listener, error) {
	l, err := b.desk.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, handlerWord) }),
		ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols),
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(l) }()
	return l, nil
}

// answeredBy polls from inside the cluster until the handler, or the app,
// answers the Service.
func (b *stage) answeredBy(ctx context.Context, laptop bool) error {
	return wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, readyLimit, true, func(ctx context.Context) (bool, error) {
		cmd := b.desk.Rig().Cluster.KubectlCommand(ctx, "admin", "exec", "-n", manifests.Namespace, "deploy/"+clientName, "--", manifests.Binary, "call", "http://"+appName+"."+manifests.Namespace)
		result, err := rig.Run(cmd)
		if err != nil || result.Code != 0 {
			return false, err
		}
		return strings.Contains(result.Stdout, `"body": "`+handlerWord+`"`) == laptop, nil
	})
}
