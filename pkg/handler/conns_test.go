package handler

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// halfConn is a pipe that counts its half-closes.
type halfConn struct {
	net.Conn
	halfClosed int
}

func (c *halfConn) CloseWrite() error {
	c.halfClosed++
	return nil
}

// TestDrain: leaving ends what is idle, and waits for what is offered and for
// what is owed an answer, but not for ever.
func TestDrain(t *testing.T) {
	ends := func(s *connSet, pair *connPair) (client, handler *halfConn, c, h splice.Conn, far net.Conn) {
		near, far := net.Pipe()
		client, handler = &halfConn{Conn: near}, &halfConn{Conn: near}
		c, h = s.join(pair, client, handler)
		return client, handler, c, h, far
	}
	send := func(t *testing.T, far net.Conn, via splice.Conn) {
		t.Helper()
		go func() { _, _ = far.Write([]byte("x")) }()
		if _, err := io.ReadFull(via, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	drained := func(s *connSet) time.Duration {
		begin := time.Now()
		s.drain(context.Background())
		return time.Since(begin)
	}

	t.Run("offered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var s connSet
			pair := s.begin()
			time.AfterFunc(3*time.Second, func() { s.end(pair) })
			if took := drained(&s); took < 3*time.Second || took > 4*time.Second {
				t.Errorf("drained after %v", took)
			}
		})
	})
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var s connSet
			pair := s.begin()
			client, handler, _, h, far := ends(&s, pair)
			send(t, far, h)
			time.AfterFunc(drainIdle+2*drainEvery, func() { s.end(pair) })
			drained(&s)
			if client.halfClosed == 0 || handler.halfClosed == 0 {
				t.Error("an idle connection is not told that it is over")
			}
		})
	})
	t.Run("asked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var s connSet
			pair := s.begin()
			client, handler, c, h, far := ends(&s, pair)
			send(t, far, c)
			time.AfterFunc(4*drainIdle, func() {
				if client.halfClosed+handler.halfClosed > 0 {
					t.Error("a connection that waits for its answer is half-closed")
				}
				send(t, far, h)
			})
			time.AfterFunc(6*drainIdle, func() { s.end(pair) })
			drained(&s)
			if client.halfClosed == 0 {
				t.Error("an answered connection is not told that it is over")
			}
		})
	})
	t.Run("limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var s connSet
			s.begin()
			if took := drained(&s); took != drainLimit {
				t.Errorf("drained after %v", took)
			}
		})
	})
}
