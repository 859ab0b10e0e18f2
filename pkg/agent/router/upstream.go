package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// upstream is a connection to the app or a handler. A goroutine of its own passes
// the answers on to the client.
type upstream struct {
	relay *relay
	conn  splice.Conn
	app   bool
	taker Taker         // nil: the app
	ended chan struct{} // closed when nothing is read any more

	// Guarded by relay.state:
	ex       *exchange // nil: nothing is expected
	unasked  Opacity   // what it did while nothing was expected
	early    []byte    // what an app has said that may begin HTTP/2
	stopping bool
	gone     bool        // nothing more is read
	asked    bool        // an answer was expected
	timer    *time.Timer // closes it when it has been idle for long

	// Owned by the goroutine; read them after ended.
	in  []byte // of a head that is not complete
	raw bool   // what comes is passed on as it is

	limited bool // the rest of a head has a limit

	finished bool // relay's goroutine has closed it for writing
}

// follow reads an upstream from now on.
func (r *relay) follow(conn splice.Conn, app bool) *upstream {
	u := &upstream{relay: r, conn: conn, app: app, ended: make(chan struct{})}
	r.track(conn)
	go func() {
		defer close(u.ended)
		u.over(u.read())
	}()
	return u
}

// expect tells that an answer is to come.
func (u *upstream) expect(ex *exchange) {
	u.relay.state.Lock()
	defer u.relay.state.Unlock()
	u.expectLocked(ex)
}

func (u *upstream) expectLocked(ex *exchange) {
	u.ex, u.asked = ex, true
	switch {
	case u.gone:
		ex.err = errors.New("the connection has ended")
		u.finishLocked()
	case u.unasked != "": // what it says is passed on, but not understood
		ex.opaque = u.unasked
		u.finishLocked()
	}
}

func (u *upstream) current() *exchange {
	u.relay.state.Lock()
	defer u.relay.state.Unlock()
	return u.ex
}

// expected returns the exchange that what has come belongs to. What an app says
// unasked is the client's, unless a handler is asked.
func (u *upstream) expected() *exchange {
	u.relay.state.Lock()
	defer u.relay.state.Unlock()
	switch {
	case u.ex != nil || !u.app || u.raw:
	case u.relay.handlerLast:
		u.gone = true // nobody is asked on it any more
	default:
		u.raw = true
		if !u.stopping {
			u.unasked = Unasked
		}
	}
	return u.ex
}

// finish ends the exchange.
func (u *upstream) finish() {
	u.relay.state.Lock()
	defer u.relay.state.Unlock()
	u.finishLocked()
}

func (u *upstream) finishLocked() {
	if u.ex != nil {
		close(u.ex.done)
		u.ex = nil
	}
}

// read passes answers on until the connection ends. A nil error is its EOF.
func (u *upstream) read() error {
	var d *body // of the answer whose head has passed
	for {
		buf := buffers.Get().(*[]byte)
		n, err := u.conn.Read(*buf)
		if n > 0 {
			var delivered error
			if d, delivered = u.deliver((*buf)[:n], d); delivered != nil {
				err = delivered
			}
		}
		buffers.Put(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) && u.tooSlow() {
			err = u.giveUp(u.current(), u.in)
			u.in = nil
		}
		u.limitHead()
		switch {
		case errors.Is(err, io.EOF):
			if ex := u.current(); ex != nil && d != nil && d.untilEnd {
				ex.ended = true
				u.finish()
			}
			return nil
		case err != nil:
			return err
		}
	}
}

// limitHead bounds how long the rest of an answer's head may take.
func (u *upstream) limitHead() {
	u.relay.state.Lock()
	defer u.relay.state.Unlock()
	if waits := len(u.in) > 0 && !u.raw; waits != u.limited && !u.stopping {
		u.limited = waits
		limit := time.Time{}
		if waits {
			limit = time.Now().Add(headLimit)
		}
		_ = u.conn.SetReadDeadline(limit)
	}
}

// tooSlow reports whether a read has ended for that.
func (u *upstream) tooSlow() bool {
	u.relay.state.Lock()
	defer u.relay.state.Unlock()
	return u.limited && !u.stopping && u.ex != nil
}

// errUnwanted is what a handler sends that nobody asked it for, or an app while a
// handler answers: its connection is of no use any more.
var errUnwanted = errors.New("it sends what was not asked for")

// deliver passes on what has come. d is the body that goes on, nil at a head.
func (u *upstream) deliver(b []byte, d *body) (*body, error) {
	b = u.keepEarly(b)
	for len(b) > 0 {
		ex := u.expected()
		switch {
		case u.raw:
			return nil, u.write(b)
		case ex == nil:
			return nil, errUnwanted
		case d == nil:
			u.in = append(u.in, b...)
			taken, next, err := u.head(ex)
			if err != nil || taken == 0 {
				return nil, err
			}
			b, u.in, d = u.in[taken:], nil, next
			continue
		}
		n, ended, bad := d.take(b)
		if bad != nil {
			return nil, u.giveUp(ex, b)
		}
		if err := u.write(b[:n]); err != nil {
			return d, err
		}
		b = b[n:]
		ex.got += int64(n)
		if ended {
			d = nil
			u.finish()
		}
	}
	return d, nil
}

// head looks at what may be the head of an answer, and passes it on with what is
// there of the body. taken is how much of u.in that was, 0 when it is incomplete.
func (u *upstream) head(ex *exchange) (taken int, d *body, err error) {
	a, err := parseAnswer(u.in, ex.method)
	switch {
	case errors.Is(err, errShort):
		return 0, nil, nil
	case err != nil:
		in := u.in
		u.in = nil
		return 0, nil, u.giveUp(ex, in)
	}
	ex.status = a.status
	switch {
	case a.status == 101 && !u.app && !ex.upgrades:
		return 0, nil, errors.New("the handler switches to a protocol that was not offered")
	case a.status == 101:
		ex.begun, ex.switched, u.raw = true, true, true
		in := u.in
		u.in = nil
		err := u.write(in)
		u.finish()
		return 0, nil, err
	case a.status < 200:
		ex.begun = true
		return a.size, nil, u.write(u.in[:a.size])
	}
	ex.begun, ex.lasts = true, a.lasts
	ex.answered.Store(true)
	d = newBody(a.body)
	n, ended, bad := 0, a.body.none(), error(nil)
	if !ended {
		n, ended, bad = d.take(u.in[a.size:])
	}
	if bad != nil {
		in := u.in
		u.in = nil
		return 0, nil, u.giveUp(ex, in)
	}
	said := u.in[:a.size+n]
	if !u.app && a.lasts && u.relay.appRefuses() {
		ex.last = true
		said = slices.Concat(lastHead(u.in[:a.size]), u.in[a.size:a.size+n])
	}
	err = u.write(said)
	ex.got = int64(n)
	if ended {
		d = nil
		u.finish()
	}
	return a.size + n, d, err
}

// giveUp passes everything on as it is from now on.
func (u *upstream) giveUp(ex *exchange, b []byte) error {
	ex.begun, ex.opaque, u.raw = true, Ambiguous, true
	err := u.write(b)
	u.finish()
	return err
}

// write passes bytes on to the client.
func (u *upstream) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := u.relay.client.Write(b); err != nil {
		u.relay.fail(fmt.Errorf("answer not delivered: %w", err))
		return err
	}
	return nil
}

// over is the end of the goroutine.
func (u *upstream) over(err error) {
	u.relay.state.Lock()
	stopping, ex, unheard := u.stopping, u.ex, u.app && u.relay.handlerLast && !u.stopping
	u.gone = true
	if !stopping {
		u.saidEarlyLocked()
	}
	ends := ex == nil && u.app && !unheard && !stopping && !errors.Is(err, errUnwanted)
	if ends {
		u.relay.ending = true
	}
	u.relay.state.Unlock()
	if unheard {
		u.relay.replace(u)
		return
	}
	if stopping && (err == nil || errors.Is(err, os.ErrDeadlineExceeded)) {
		_ = u.write(u.in)
		return
	}
	if u.app && err == nil {
		_ = u.write(u.in)
	}
	switch {
	case ex != nil && u.app && err == nil:
		ex.ended = true // as the client would see it without us
	case ex != nil && err == nil:
		ex.err = errors.New("the handler ended before its answer did")
	case ex != nil:
		ex.err = err
	case ends && err != nil:
		u.relay.fail(err)
	case ends:
		// A client that keeps its connection is told that the app does not.
		_ = u.relay.client.CloseWrite()
	}
	u.finish()
}

// spokeUp returns what the upstream did while nothing was expected of it.
func (u *upstream) spokeUp() Opacity {
	u.relay.state.Lock()
	defer u.relay.state.Unlock()
	return u.unasked
}

func (u *upstream) hasEnded() bool {
	select {
	case <-u.ended:
		return true
	default:
		return false
	}
}

// closeWrite tells the upstream that no more comes. What it is told twice, or when
// it has gone, does not matter.
func (u *upstream) closeWrite() {
	u.finished = true
	_ = u.conn.CloseWrite()
}

// finishing returns the connection, for one who closes it for writing in the end.
func (u *upstream) finishing() splice.Conn {
	if u.finished {
		return finished{u.conn}
	}
	return u.conn
}

// finished is a connection that is closed for writing.
type finished struct{ splice.Conn }

func (finished) CloseWrite() error { return nil }

// Reset implements what splice.Reset looks for.
func (f finished) Reset() error { return splice.Reset(f.Conn) }

// stop ends the goroutine and leaves the connection to the caller.
func (u *upstream) stop() error {
	u.relay.state.Lock()
	u.stopping = true
	u.relay.state.Unlock()
	_ = u.conn.SetReadDeadline(time.Unix(1, 0))
	select {
	case <-u.ended:
	case <-u.relay.ctx.Done():
		return context.Cause(u.relay.ctx)
	}
	return u.conn.SetReadDeadline(time.Time{})
}

// idle closes the connection if it is not woken soon.
func (u *upstream) idle() { u.timer = time.AfterFunc(keepHandler, func() { _ = u.conn.Close() }) }

// wake makes an idle connection ready for another request; false if it has gone.
func (u *upstream) wake() bool { return u.timer != nil && u.timer.Stop() && !u.hasEnded() }

// close ends the connection and its goroutine.
func (u *upstream) close() {
	if u.timer != nil {
		u.timer.Stop()
	}
	_ = u.conn.Close()
	<-u.ended
	u.relay.untrack(u.conn)
}
