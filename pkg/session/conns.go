package session

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

const (
	// drainIdle is how long a connection must have been silent to be taken for
	// an idle keep-alive one, which any HTTP server may close.
	drainIdle = time.Second
	// drainLimit bounds waiting for the others.
	drainLimit = 10 * time.Second
	drainEvery = 100 * time.Millisecond
)

// connSet knows the captured connections that are open, so that leaving can
// let them end in their own time. The zero value is empty.
type connSet struct {
	mu   sync.Mutex
	open map[*connPair]bool
}

// connPair is one captured connection and its connection to the handler.
type connPair struct {
	client, handler splice.Conn
	last            atomic.Int64 // of a byte either way, in Unix nanoseconds
}

// add registers a pair and returns its ends, which note when bytes pass.
func (s *connSet) add(client, handler splice.Conn) (c, h splice.Conn, forget func()) {
	pair := &connPair{client: client, handler: handler}
	pair.touch()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*connPair]bool{}
	}
	s.open[pair] = true
	forget = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, pair)
	}
	return noted{client, pair}, noted{handler, pair}, forget
}

// drain ends connections as they fall silent, by FIN, and returns when none is
// left or after drainLimit.
func (s *connSet) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	for s.closeIdle() > 0 {
		select {
		case <-time.After(drainEvery):
		case <-ctx.Done():
			return
		}
	}
}

// closeIdle half-closes what is silent and returns how many are open.
func (s *connSet) closeIdle() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pair := range s.open {
		if time.Since(time.Unix(0, pair.last.Load())) >= drainIdle {
			_ = pair.client.CloseWrite()
			_ = pair.handler.CloseWrite()
		}
	}
	return len(s.open)
}

func (p *connPair) touch() { p.last.Store(time.Now().UnixNano()) }

// noted is an end of a pair that notes each byte read.
type noted struct {
	splice.Conn
	pair *connPair
}

func (n noted) Read(b []byte) (int, error) {
	c, err := n.Conn.Read(b)
	n.pair.touch()
	return c, err
}

// Reset passes on to the end itself, which has its own way to be reset.
func (n noted) Reset() error { return splice.Reset(n.Conn) }
