package tunnel

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

var testKey = bytes.Repeat([]byte{7}, 32)

// lanes are two ends of a stream: both kinds are used in tests.
type lanes func(testing.TB) (client, server net.Conn)

func pipeLane(testing.TB) (client, server net.Conn) { return net.Pipe() }

func tcpLane(tb testing.TB) (client, server net.Conn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		tb.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		tb.Fatal(err)
	}
	return client, server
}

var errOnce = errors.New("there is no other connection")

// once dials one connection, once.
func once(c net.Conn) func(context.Context) (net.Conn, error) {
	return func(context.Context) (conn net.Conn, err error) {
		if conn, c = c, nil; conn == nil {
			err = errOnce
		}
		return conn, err
	}
}

// final makes a laptop give up when there is no other connection.
func final(cfg Config) Config {
	cfg.MaxLanes = 1
	cfg.Final = func(_ context.Context, err error) error {
		if errors.Is(err, errOnce) {
			return err
		}
		return nil
	}
	return cfg
}

// accept is the agent's end of a tunnel's first connection.
func accept(ctx context.Context, conn net.Conn, cfg Config) (*Tunnel, error) {
	s, err := NewServer(cfg)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	t, _, err := s.Handle(ctx, conn)
	return t, err
}

// pair is a laptop's and an agent's end, closed at the end of the test.
func pair(tb testing.TB, lane lanes, laptop, agent Config) (*Tunnel, *Tunnel) {
	tb.Helper()
	c, s := lane(tb)
	if laptop.Key == nil {
		laptop.Key = testKey
	}
	if agent.Key == nil {
		agent.Key = testKey
	}
	type result struct {
		t   *Tunnel
		err error
	}
	accepted := make(chan result, 1)
	go func() {
		t, err := accept(context.Background(), s, agent)
		accepted <- result{t, err}
	}()
	client, err := Dial(context.Background(), once(c), final(laptop))
	server := <-accepted
	if err := errors.Join(err, server.err); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = client.Close()
		_ = server.t.Close()
	})
	return client, server.t
}

// flowPair opens a flow on a and accepts it on b.
func flowPair(tb testing.TB, a, b *Tunnel, network string) (*Flow, *Flow) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	accepted := make(chan *Flow, 1)
	go func() {
		defer close(accepted)
		r, err := b.AcceptFlow(ctx)
		if err != nil {
			tb.Error(err)
			return
		}
		f, err := r.Accept()
		if err != nil {
			tb.Error(err)
			return
		}
		accepted <- f
	}()
	f, err := a.Open(ctx, Target{Network: network, Address: "test"})
	if err != nil {
		tb.Fatal(err)
	}
	g, ok := <-accepted
	if !ok {
		tb.FailNow()
	}
	return f, g
}

// nothing is what a new lane has handled.
func nothing() uint64 { return 0 }
