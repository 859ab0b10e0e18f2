package portforward

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// countingConn counts the writes that reach the network.
type countingConn struct {
	net.Conn
	writes atomic.Int64
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// TestGather: what is written together goes to the network in one write,
// though it makes many records, and arrives as it was.
func TestGather(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	near, far := net.Pipe()
	defer func() { _, _ = near.Close(), far.Close() }()
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(tls.Server(far, &tls.Config{Certificates: server.TLS.Certificates}))
		got <- b
	}()
	counting := &countingConn{Conn: near}
	c := &carrier{raw: near, gather: newGatherer(counting)}
	conn, err := handshake(context.Background(), c.gather, server.Client().Transport.(*http.Transport).TLSClientConfig, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	c.Conn = conn
	before := counting.writes.Load()
	want := make([]byte, maxPayload)
	_, _ = rand.NewChaCha8([32]byte{}).Read(want)
	if err := c.writeAll(want[:100], nil, want[100:]); err != nil {
		t.Fatal(err)
	}
	if n := counting.writes.Load() - before; n != 1 {
		t.Errorf("%d writes to the network, not 1", n)
	}
	if err := conn.(*tls.Conn).CloseWrite(); err != nil { // passes, as nothing is held
		t.Fatal(err)
	}
	if b := <-got; !bytes.Equal(b, want) {
		t.Errorf("%d bytes arrived, not the %d sent", len(b), len(want))
	}
}
