package main

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

func TestListenFlows(t *testing.T) {
	l, err := listenFlows("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lane := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
	tun, err := tunnel.Dial(t.Context(), lane, tunnel.Config{Key: api.TunnelKey(), MaxLanes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tun.Close() }()
	flow, err := tun.Open(t.Context(), tunnel.Target{Network: "tcp", Address: "app"})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if got, err := io.ReadAll(flow); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("accepted after Close")
	}
}
