package router

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router/h2"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// mirror is a Mirror's Taker with one connection, or none before ctx ends.
type mirror struct {
	side
	conn splice.Conn
}

func (m mirror) Open(ctx context.Context) (splice.Conn, error) {
	if m.conn == nil {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return m.conn, nil
}

// mirrorTo returns a Mirror, and what it was told of.
func mirrorTo(conn splice.Conn) (to Mirror, dropped, done chan bool) {
	dropped, done = make(chan bool, 10), make(chan bool, 10)
	return Mirror{Taker: mirror{conn: conn}, Dropped: func() { dropped <- true }, Done: func() { done <- true }}, dropped, done
}

// TestCopierHoldsBytes: small pieces take no more memory than large ones.
func TestCopierHoldsBytes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	to, _, done := mirrorTo(nil)
	budget := h2.NewBudget(1 << 20)
	c := NewCopier(ctx, to, budget, nil)
	for range 100_000 {
		c.Write([]byte("x"))
	}
	if n := len(c.queue); n > 100_000/copyPiece+1 || c.holds != 100_000 {
		t.Errorf("%d bytes are held in %d pieces", c.holds, n)
	}
	cancel()
	<-done
	if held := budget.Held(); held != 0 {
		t.Errorf("%d bytes are held in the end", held)
	}
}

// TestCopierOfAHandlerThatLeaves ends, though what it copies goes on.
func TestCopierOfAHandlerThatLeaves(t *testing.T) {
	l := listen(t)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	handler, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	to, dropped, done := mirrorTo(conn.(*net.TCPConn))
	c := NewCopier(t.Context(), to, h2.NewBudget(1<<20), nil)
	c.Write([]byte("hello"))
	if _, err := io.ReadFull(handler, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if err := handler.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	if len(dropped) > 0 {
		t.Error("a copy that was taken is called dropped")
	}
	c.Write([]byte("more"))
	if len(dropped) != 1 {
		t.Error("what comes later is not called dropped")
	}
}
