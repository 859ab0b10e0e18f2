package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// join copies between a flow and a connection until both directions have
// ended, and closes both. FIN is passed on as FIN; an error or the end of ctx
// resets both. While they are idle it needs no buffer, which is what decides
// how many connections an agent can hold.
func join(ctx context.Context, flow *tunnel.Flow, conn *net.TCPConn) error {
	return both(ctx, flow, conn,
		func() error {
			if _, err := flow.WriteTo(conn); err != nil {
				return fmt.Errorf("copy from %s: %w", flow.Target(), err)
			}
			return conn.CloseWrite()
		},
		func() error {
			if _, err := flow.ReadFrom(conn); err != nil {
				return fmt.Errorf("copy to %s: %w", flow.Target(), err)
			}
			return flow.CloseWrite()
		})
}

// forward does the same for two TCP connections, between which the kernel
// moves the bytes.
func forward(ctx context.Context, a, b *net.TCPConn) error {
	direction := func(dst, src *net.TCPConn) error {
		if _, err := dst.ReadFrom(src); err != nil {
			return err
		}
		return dst.CloseWrite()
	}
	return both(ctx, a, b,
		func() error { return direction(a, b) },
		func() error { return direction(b, a) })
}

// both runs the two directions between a and b. The first that fails resets
// both, and its error is returned.
func both(ctx context.Context, a, b net.Conn, one, other func() error) error {
	var (
		once  sync.Once
		first error
		wg    sync.WaitGroup
	)
	abort := func(err error) {
		once.Do(func() {
			first = err
			_, _ = splice.Reset(a), splice.Reset(b)
		})
	}
	aborted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		abort(context.Cause(ctx))
		close(aborted)
	})
	run := func(direction func() error) {
		if err := direction(); err != nil {
			abort(err)
		}
	}
	wg.Go(func() { run(one) })
	run(other)
	wg.Wait()
	if !stop() {
		<-aborted
	}
	once.Do(func() { _, _ = a.Close(), b.Close() })
	if errors.Is(first, context.Canceled) {
		return nil
	}
	return first
}
