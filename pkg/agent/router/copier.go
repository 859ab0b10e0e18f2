package router

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router/h2"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

const (
	// copyLimit is how long a piece of a copy may wait to be taken, and how long a copy
	// may take after what it copies has ended.
	copyLimit = time.Minute
	// copyHolds bounds what one copy holds.
	copyHolds = 1 << 20
	// copyPiece is what small pieces are joined to, so that many of them take no more
	// memory than their bytes.
	copyPiece = 4 << 10
	// copyBuffer is what a copy's answer is read into: nobody wants it.
	copyBuffer = 2 << 10
)

// Copier sends a copy of what a client sends to one who is not waited for. What
// cannot be held for him until he takes it ends the copy.
type Copier struct {
	to   Mirror
	held *h2.Budget

	mu      sync.Mutex
	queue   [][]byte
	holds   int  // bytes of the queue
	ended   bool // nothing more comes
	gone    bool // nothing more is taken
	dropped bool
	changed chan struct{} // of one place: something above has changed
}

// NewCopier starts a copy. What it holds is of the budget. over, if set, is asked with
// each piece that comes back whether the copy has been answered. The end of ctx ends the
// copy; that of the connection which it is of does not.
func NewCopier(ctx context.Context, to Mirror, held *h2.Budget, over func([]byte) bool) *Copier {
	c := &Copier{to: to, held: held, changed: make(chan struct{}, 1)}
	go c.run(ctx, over)
	return c
}

// Write holds a piece of the copy.
func (c *Copier) Write(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped || c.ended || len(b) == 0 {
		return
	}
	c.wake()
	if c.gone || c.holds+len(b) > copyHolds || !c.held.Take(len(b)) {
		c.dropLocked()
		return
	}
	c.holds += len(b)
	if n := len(c.queue) - 1; n >= 0 && len(c.queue[n])+len(b) <= copyPiece {
		c.queue[n] = append(c.queue[n], b...)
		return
	}
	c.queue = append(c.queue, bytes.Clone(b))
}

// End says that nothing more comes. A copy that is not whole then is reset.
func (c *Copier) End(whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended && !whole {
		c.dropLocked()
	}
	c.ended = true
	c.wake()
}

func (c *Copier) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// clearLocked forgets what is held.
func (c *Copier) clearLocked() {
	c.held.Give(c.holds)
	c.queue, c.holds = nil, 0
}

// dropLocked gives the copy up.
func (c *Copier) dropLocked() {
	c.clearLocked()
	if !c.dropped {
		c.dropped = true
		c.to.Dropped()
	}
}

func (c *Copier) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked()
}

// leave is for when nothing more is taken: the copy has been answered, or its
// connection has ended. What is said from then on is dropped.
func (c *Copier) leave(answered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone, c.ended = true, c.ended || answered
	if answered {
		c.clearLocked()
	} else if len(c.queue) > 0 {
		c.dropLocked()
	}
	c.wake()
}

// next returns the next piece; ended that there is none, and will be none.
func (c *Copier) next(ctx context.Context) (b []byte, ended bool, err error) {
	for {
		c.mu.Lock()
		switch {
		case c.dropped:
			c.mu.Unlock()
			return nil, false, io.ErrShortWrite
		case len(c.queue) > 0:
			b, c.queue[0] = c.queue[0], nil
			c.queue = c.queue[1:]
			c.holds -= len(b)
			c.mu.Unlock()
			return b, false, nil
		case c.ended || c.gone:
			c.mu.Unlock()
			return nil, true, nil
		}
		c.mu.Unlock()
		select {
		case <-c.changed:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

func (c *Copier) run(ctx context.Context, over func([]byte) bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer c.to.Done()
	conn, err := c.to.Taker.Open(ctx)
	if err != nil {
		c.lose()
		return
	}
	c.to.Taker.Taken()
	defer context.AfterFunc(ctx, func() { _ = splice.Reset(conn) })()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		c.leave(c.discard(conn, over))
	}()
	for {
		b, ended, err := c.next(ctx)
		if err == nil && !ended {
			_ = conn.SetWriteDeadline(time.Now().Add(copyLimit))
			_, err = conn.Write(b)
			c.held.Give(len(b))
		}
		switch {
		case err != nil:
			c.lose()
			cancel()
			<-answered
			return
		case !ended:
			continue
		case over == nil:
			_ = conn.CloseWrite()
		}
		select {
		case <-answered:
			_ = conn.Close()
		case <-time.After(copyLimit):
			cancel()
			<-answered
		}
		return
	}
}

// discard reads what comes back until it is over, and reports whether that answers
// the copy.
func (c *Copier) discard(conn splice.Conn, over func([]byte) bool) (answered bool) {
	buf := make([]byte, copyBuffer)
	for {
		n, err := conn.Read(buf)
		if n > 0 && over != nil && over(buf[:n]) {
			return true
		}
		if err != nil {
			return false
		}
	}
}

// Copied returns the connection of a client, of which copiers get what is read.
func Copied(client splice.Conn, copiers []*Copier) splice.Conn { return &copiedConn{client, copiers} }

type copiedConn struct {
	splice.Conn
	copiers []*Copier
}

func (c *copiedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for _, copier := range c.copiers {
		copier.Write(b[:n])
		if err != nil {
			copier.End(errors.Is(err, io.EOF))
		}
	}
	return n, err
}

func (c *copiedConn) Close() error {
	c.end()
	return c.Conn.Close()
}

// Reset implements what splice.Reset looks for.
func (c *copiedConn) Reset() error {
	c.end()
	return splice.Reset(c.Conn)
}

func (c *copiedConn) end() {
	for _, copier := range c.copiers {
		copier.End(true) // as far as anybody has read
	}
}

// OnOver passes on to the connection itself, if it implements splice.Ender.
func (c *copiedConn) OnOver(over func(error)) { onOver(c.Conn, over) }

func onOver(conn splice.Conn, over func(error)) {
	if e, ok := conn.(splice.Ender); ok {
		e.OnOver(over)
	}
}

// copies starts a copy of a request for each who gets one, of HTTP/1.
func (r *relay) copies(req *request, head []byte) {
	if r.cfg.Mirrors == nil {
		return
	}
	for _, to := range r.cfg.Mirrors(Subject{req}) {
		over := make(chan struct{})
		tap := NewTap(0, func(Exchange, *Message, *Message) { close(over) })
		c := NewCopier(r.outer, to, r.cfg.Mirrored, func(b []byte) bool {
			if !tap.answered(b) {
				return true // when it is over cannot be told
			}
			select {
			case <-over:
				return true
			default:
				return false
			}
		})
		head := withoutUpgradeOffer(req, head)
		tap.asked(head)
		c.Write(head)
		req.copiers = append(req.copiers, c)
		req.taps = append(req.taps, tap)
	}
}

// copied passes a part of a body on to the copies of its request.
func (r *request) copied(b []byte) {
	for n, c := range r.copiers {
		r.taps[n].asked(b)
		c.Write(b)
	}
}

// endCopies ends the copies of a request.
func (r *request) endCopies() {
	for _, c := range r.copiers {
		c.End(r.whole)
	}
}
