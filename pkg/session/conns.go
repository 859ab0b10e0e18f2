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

// connSet knows the captured connections, so that leaving can let them end in
// their own time. The zero value is empty.
type connSet struct {
	mu   sync.Mutex
	open map[*connPair]bool
}

// connPair is one captured connection, from the moment it is offered, and its
// connection to the handler. The ends are nil until both are there; they are
// guarded by connSet.mu.
type connPair struct {
	client, handler splice.Conn
	last            atomic.Int64 // of a byte either way, in Unix nanoseconds
	asked           atomic.Bool  // that byte was the client's: it waits for an answer
}

// begin registers a connection that is offered.
func (s *connSet) begin() *connPair {
	s.mu.Lock()
	defer s.mu.Unlock()
	pair := &connPair{}
	if s.open == nil {
		s.open = map[*connPair]bool{}
	}
	s.open[pair] = true
	return pair
}

// join gives a pair its ends and returns them as ends that note when bytes pass.
func (s *connSet) join(pair *connPair, client, handler splice.Conn) (c, h splice.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pair.note(false)
	pair.client, pair.handler = client, handler
	return noted{client, pair, true}, noted{handler, pair, false}
}

// end forgets a pair.
func (s *connSet) end(pair *connPair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, pair)
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

// closeIdle half-closes what is silent and owes no answer, and returns how many
// are open.
func (s *connSet) closeIdle() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pair := range s.open {
		if pair.client != nil && !pair.asked.Load() && time.Since(time.Unix(0, pair.last.Load())) >= drainIdle {
			_ = pair.client.CloseWrite()
			_ = pair.handler.CloseWrite()
		}
	}
	return len(s.open)
}

func (p *connPair) note(asked bool) {
	p.last.Store(time.Now().UnixNano())
	p.asked.Store(asked)
}

// noted is an end of a pair that notes each byte read.
type noted struct {
	splice.Conn
	pair   *connPair
	client bool
}

func (n noted) Read(b []byte) (int, error) {
	c, err := n.Conn.Read(b)
	if c > 0 {
		n.pair.note(n.client)
	}
	return c, err
}

// OnOver passes on to the end itself, if that knows.
func (n noted) OnOver(over func(error)) {
	if e, ok := n.Conn.(splice.Ender); ok {
		e.OnOver(over)
	}
}

// Reset passes on to the end itself, which has its own way to be reset.
func (n noted) Reset() error { return splice.Reset(n.Conn) }
