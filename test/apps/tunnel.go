package main

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

// flowListener accepts the flows of all tunnels that come to an address, for
// measuring a tunnel by itself. Close it.
type flowListener struct {
	net.Listener // of lanes
	server       *tunnel.Server
	ctx          context.Context // ends with Close
	cancel       context.CancelFunc
	flows        chan net.Conn
	wg           sync.WaitGroup
}

func listenFlows(addr string) (net.Listener, error) {
	server, err := tunnel.NewServer(tunnel.Config{Key: api.TunnelKey()})
	if err != nil {
		return nil, err
	}
	lanes, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	l := &flowListener{Listener: lanes, server: server, flows: make(chan net.Conn)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wg.Go(func() {
		for {
			lane, err := lanes.Accept()
			if err != nil {
				return
			}
			l.wg.Go(func() { l.serve(lane) })
		}
	})
	return l, nil
}

// serve makes a tunnel of its first lane, and accepts its flows.
func (l *flowListener) serve(lane net.Conn) {
	t, first, err := l.server.Handle(l.ctx, lane)
	if err != nil || !first {
		return
	}
	defer func() { _ = t.Close() }()
	for {
		r, err := t.AcceptFlow(l.ctx)
		if err != nil {
			return
		}
		flow, err := r.Accept()
		if err != nil {
			continue
		}
		select {
		case l.flows <- flow:
		case <-l.ctx.Done():
			return
		}
	}
}

// Accept implements net.Listener.
func (l *flowListener) Accept() (net.Conn, error) {
	select {
	case flow := <-l.flows:
		return flow, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener, and ends the tunnels.
func (l *flowListener) Close() error {
	l.cancel()
	err := l.Listener.Close()
	l.wg.Wait()
	return err
}
