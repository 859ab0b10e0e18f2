package agent

import (
	"context"
	"errors"
	"net"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// join copies between a flow and a connection until both directions have
// ended, and closes both. FIN is passed on as FIN; an error or the end of ctx
// resets both. It returns at once: while they are idle the pair needs neither
// a goroutine nor a buffer, which is what decides how many connections an
// agent can hold. done is called in the end.
func (a *Agent) join(ctx context.Context, flow *tunnel.Flow, conn *net.TCPConn, done func(error)) {
	c, err := a.poller.add(conn)
	if err != nil {
		_, _ = splice.Reset(flow), splice.Reset(conn)
		done(err)
		return
	}
	splice.Join(ctx, c, flow, func(_ splice.Stats, err error) {
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		done(err)
	})
}

// forward is join for two TCP connections, between which the kernel moves the bytes.
func (a *Agent) forward(ctx context.Context, client, app *net.TCPConn, done func(error)) {
	from, err := a.poller.add(client)
	var to *polled
	if err == nil {
		to, err = a.poller.add(app)
	}
	if err != nil {
		_, _ = splice.Reset(client), splice.Reset(app)
		if from != nil {
			a.poller.remove(from)
		}
		done(err)
		return
	}
	splice.JoinPolled(ctx, from, to, func(_ splice.Stats, err error) {
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		done(err)
	})
}
