package handler_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/handler"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// tunnelPair returns the two ends of a tunnel within this process.
func tunnelPair(t *testing.T) (laptop, agent *tunnel.Tunnel) {
	t.Helper()
	cfg := tunnel.Config{Key: bytes.Repeat([]byte{7}, 32), Session: "test"}
	server, err := tunnel.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	accepted := make(chan *tunnel.Tunnel, 1)
	laptop, err = tunnel.Dial(t.Context(), func(context.Context) (net.Conn, error) {
		c, s := net.Pipe()
		wg.Go(func() {
			if t, first, err := server.Handle(context.Background(), s); err == nil && first {
				accepted <- t
			}
		})
		return c, nil
	}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	agent = <-accepted
	t.Cleanup(func() { _, _ = laptop.Close(), agent.Close() })
	return laptop, agent
}

// A connection is refused while the handler does not listen, and carried both
// ways once it does.
func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	laptop, agent := tunnelPair(t)
	s := handler.NewServer(handler.Handler(addr), slog.New(slog.DiscardHandler))
	var wg sync.WaitGroup
	defer wg.Wait()
	open := func() (*tunnel.Flow, error) {
		wg.Go(func() {
			if req, err := laptop.AcceptFlow(t.Context()); err == nil {
				s.Serve(t.Context(), req)
			}
		})
		return agent.Open(t.Context(), tunnel.Target{Network: "intercept", Address: "id"})
	}

	var refused *tunnel.RefusedError
	if _, err := open(); !errors.As(err, &refused) || refused.Reason != tunnel.Refused {
		t.Errorf("without a handler: %v, want a refusal", err)
	}
	if s.Failed() == nil {
		t.Error("no reason why the handler was not reached")
	}

	if l, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	wg.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.Copy(conn, conn)
	})
	flow, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Failed(); err != nil {
		t.Errorf("the handler was reached, but: %v", err)
	}
	if _, err := flow.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := flow.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(flow); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	s.Drain(t.Context())
}
