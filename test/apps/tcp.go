package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

func runTCP(ctx context.Context, s settings, _ []string) error {
	return serveTCP(ctx, s, "tcp", func(_ context.Context, conn *net.TCPConn) error {
		if s.banner {
			if _, err := fmt.Fprintf(conn, "pod %s %s\n", s.Pod, s.Version); err != nil {
				return err
			}
		}
		if _, err := io.Copy(conn, conn); err != nil {
			return err
		}
		return conn.CloseWrite()
	})
}

// runSlowFin answers only when the client has closed its side and some time
// has passed: whoever takes the FIN for the end loses the whole answer.
func runSlowFin(ctx context.Context, s settings, _ []string) error {
	answer := api.SlowFinAnswer()
	return serveTCP(ctx, s, "slowfin", func(ctx context.Context, conn *net.TCPConn) error {
		if _, err := io.Copy(io.Discard, conn); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(s.delay):
		}
		if _, err := conn.Write(answer); err != nil {
			return err
		}
		return conn.CloseWrite()
	})
}

// serveTCP gives every connection to handle and closes it afterwards. At the
// end of ctx it stops accepting and waits for the open ones, at most s.drain;
// then their ctx ends and they are closed.
func serveTCP(ctx context.Context, s settings, mode string, handle func(context.Context, *net.TCPConn) error) error {
	listeners, err := listen(s.addrs)
	if err != nil {
		return err
	}
	hard, cut := context.WithCancelCause(context.Background())
	defer cut(nil)
	var accepting, open sync.WaitGroup
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		fmt.Fprintf(s.log, "%s: listening on %s\n", mode, l.Addr())
		accepting.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					failed <- err
					return
				}
				open.Go(func() {
					defer func() { _ = conn.Close() }()
					stop := context.AfterFunc(hard, func() { _ = conn.Close() })
					defer stop()
					if err := handle(hard, conn.(*net.TCPConn)); err != nil {
						fmt.Fprintf(s.log, "%s: %s: %v\n", mode, conn.RemoteAddr(), err)
					}
				})
			}
		})
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	for _, l := range listeners {
		_ = l.Close()
	}
	accepting.Wait()
	limit := time.AfterFunc(s.drain, func() { cut(errors.New("shutting down")) })
	defer limit.Stop()
	open.Wait()
	return err
}
