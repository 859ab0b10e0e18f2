package handler

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/poll"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

const (
	// drainIdle is how long a connection must have been silent to count as an
	// idle keep-alive connection, which any HTTP server may close.
	drainIdle = time.Second
	// drainLimit bounds waiting for connections that are not idle.
	drainLimit = 10 * time.Second
	// drainEvery is how often connections are checked.
	drainEvery = 100 * time.Millisecond
)

// connSet holds the captured connections that are open, so that leaving can let
// them end in their own time. The zero value is empty.
type connSet struct {
	mu   sync.Mutex
	open map[*connPair]bool
}

// connPair is one captured connection, from the moment the agent offers it, and
// its connection to the handler. client and handler are nil until both are
// connected; connSet.mu guards them.
type connPair struct {
	client, handler splice.Conn
	lastByte        atomic.Int64 // when a byte passed either way, in Unix nanoseconds
	awaitsAnswer    atomic.Bool  // the last byte was the client's
}

// begin adds a connection that is offered.
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

// join gives a pair its two connections. It returns them wrapped, so that the
// pair records when bytes pass.
func (s *connSet) join(pair *connPair, client, handler splice.Conn) (c, h splice.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pair.record(false)
	pair.client, pair.handler = client, handler
	return recordedConn{client, pair, true}, recordedConn{handler, pair, false}
}

// end removes a pair.
func (s *connSet) end(pair *connPair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, pair)
}

// drain half-closes connections as they become idle, and returns when none is
// open, when ctx ends, or after drainLimit.
func (s *connSet) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	_ = poll.Until(ctx, drainEvery, func() (bool, error) { return s.closeIdle() == 0, nil })
}

// closeIdle half-closes, both ways, the connections that have been silent for
// drainIdle and whose client waits for no answer. It returns how many
// connections are open, those included.
func (s *connSet) closeIdle() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pair := range s.open {
		if pair.client != nil && !pair.awaitsAnswer.Load() && time.Since(time.Unix(0, pair.lastByte.Load())) >= drainIdle {
			_ = pair.client.CloseWrite()
			_ = pair.handler.CloseWrite()
		}
	}
	return len(s.open)
}

// record notes that bytes pass now, and whether the client sent them.
func (p *connPair) record(fromClient bool) {
	p.lastByte.Store(time.Now().UnixNano())
	p.awaitsAnswer.Store(fromClient)
}

// recordedConn is one connection of a pair. It records each read in the pair.
type recordedConn struct {
	splice.Conn
	pair     *connPair
	isClient bool
}

func (c recordedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.pair.record(c.isClient)
	}
	return n, err
}

// OnOver passes on to the connection itself, if it implements splice.Ender.
func (c recordedConn) OnOver(over func(error)) {
	if e, ok := c.Conn.(splice.Ender); ok {
		e.OnOver(over)
	}
}

// Reset resets the connection itself in the way that it has for it.
func (c recordedConn) Reset() error { return splice.Reset(c.Conn) }
