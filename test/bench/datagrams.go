//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// udp is the protocol of a Route of datagrams.
const udp = "udp"

// datagrams measures the routes of datagrams: a question and its answer, one after the other.
func (b *stage) datagrams(ctx context.Context, report *Report) error {
	port, stop, err := b.udpHandler(ctx)
	if err != nil {
		return err
	}
	defer stop()
	measure := func(c Case, laptop bool) error {
		if err := b.udpAnsweredBy(ctx, laptop); err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
		b.say(fmt.Sprintf("datagrams: %s", c))
		route, err := b.route(ctx, c, udp, 1)
		report.Routes = append(report.Routes, route)
		return err
	}
	if err := measure(AppAlone, false); err != nil {
		return err
	}
	if err := must(b.desk.Tele(ctx, "intercept", udpName, "--port", port, "--quiet")); err != nil {
		return err
	}
	if err := measure(Global, true); err != nil {
		return err
	}
	session, err := b.session(ctx)
	if err != nil {
		return err
	}
	if err := syscall.Kill(session.PID, syscall.SIGKILL); err != nil {
		return err
	}
	return errors.Join(measure(PassThrough, false), must(b.desk.Tele(ctx, "clean", udpName, "--force")))
}

// udpHandler answers at the laptop as the application does, until stop is called.
func (b *stage) udpHandler(ctx context.Context) (port string, stop func(), err error) {
	l, err := b.desk.ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	by, err := json.Marshal(api.Echo{Pod: handlerWord})
	if err != nil {
		return "", nil, errors.Join(err, l.Close())
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buffer := make([]byte, 64<<10)
		for {
			n, from, err := l.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = l.WriteTo(append(append(buffer[:n:n], '\n'), by...), from)
		}
	})
	_, port, err = net.SplitHostPort(l.LocalAddr().String())
	return port, func() {
		_ = l.Close()
		serving.Wait()
	}, err
}

// udpAnsweredBy polls from inside the cluster until the handler, or the app, answers.
func (b *stage) udpAnsweredBy(ctx context.Context, laptop bool) error {
	return wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, readyLimit, true, func(ctx context.Context) (bool, error) {
		l, err := b.load(ctx, "-count", "1", "-protocol", udp, "udp://"+udpName+"."+manifests.Namespace+":7")
		for by := range l.Answers {
			return strings.HasPrefix(by, handlerWord) == laptop, err
		}
		return false, err
	})
}
