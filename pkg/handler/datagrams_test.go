package handler_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/handler"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// An association is carried both ways while the handler listens, and is reset as soon as it
// turns out not to.
func TestServeDatagrams(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := handler.Handler(l.LocalAddr().String())
	if err := h.CheckUDP(t.Context()); err != nil {
		t.Errorf("with a handler: %v", err)
	}
	laptop, agent := tunnelPair(t)
	s := handler.NewServer(h, slog.New(slog.DiscardHandler))
	ctx, end := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer end()
	open := func() *tunnel.Flow {
		t.Helper()
		wg.Go(func() {
			if req, err := laptop.AcceptFlow(t.Context()); err == nil {
				s.ServeDatagrams(ctx, req)
			}
		})
		flow, err := agent.Open(t.Context(), tunnel.Target{Network: "intercept/udp", Address: "id"})
		if err != nil {
			t.Fatal(err)
		}
		_ = flow.SetReadDeadline(time.Now().Add(10 * time.Second))
		return flow
	}
	flow := open()
	if _, err := flow.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, from, err := l.ReadFrom(b)
	if err != nil || string(b[:n]) != "hello" {
		t.Fatalf("the handler reads %q, %v", b[:n], err)
	}
	if _, err := l.WriteTo([]byte("answer"), from); err != nil {
		t.Fatal(err)
	}
	if p, err := flow.ReadPacket(); err != nil || string(p) != "answer" {
		t.Fatalf("the client reads %q, %v", p, err)
	}

	_ = l.Close()
	if err := h.CheckUDP(t.Context()); err == nil {
		t.Error("without a handler there is no error")
	}
	if _, err := flow.Write([]byte("nobody")); err != nil {
		t.Fatal(err)
	}
	if p, err := flow.ReadPacket(); !errors.Is(err, tunnel.ErrReset) {
		t.Errorf("without a handler the client reads %q, %v", p, err)
	}
	if s.Failed() == nil {
		t.Error("no reason why the handler was not reached")
	}

	flow = open()
	end()
	if p, err := flow.ReadPacket(); err == nil {
		t.Errorf("after the end the client reads %q", p)
	}
}

// A name stands for the address at which somebody listens, of either family.
func TestDatagramsOfLocalhost(t *testing.T) {
	ips, err := net.DefaultResolver.LookupNetIP(t.Context(), "ip", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("localhost is %v", ips)
	for _, ip := range ips {
		l, err := net.ListenPacket("udp", netip.AddrPortFrom(ip, 0).String())
		if err != nil {
			t.Logf("%s is not here: %v", ip, err)
			continue
		}
		_, port, _ := net.SplitHostPort(l.LocalAddr().String())
		h := handler.Handler("localhost:" + port)
		if err := h.CheckUDP(t.Context()); err != nil {
			t.Errorf("%s: %v", ip, err)
		}
		laptop, agent := tunnelPair(t)
		ctx, end := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if req, err := laptop.AcceptFlow(ctx); err == nil {
				handler.NewServer(h, slog.New(slog.DiscardHandler)).ServeDatagrams(ctx, req)
			}
		})
		flow, err := agent.Open(ctx, tunnel.Target{Network: "intercept/udp", Address: "id"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := flow.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		_ = l.SetReadDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 100)
		if n, _, err := l.ReadFrom(b); err != nil || string(b[:n]) != "hello" {
			t.Errorf("%s: the handler reads %q, %v", ip, b[:n], err)
		}
		end()
		wg.Wait()
		_ = l.Close()
	}
}
