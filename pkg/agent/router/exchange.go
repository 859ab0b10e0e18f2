package router

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// exchange is a request that an upstream has been sent. What is neither a channel nor
// atomic is read after done.
type exchange struct {
	method   string
	upgrades bool // it offers another protocol
	done     chan struct{}
	answered atomic.Bool // the answer's head, of none that another follows, has come

	status   int     // of the answer; 0: none
	got      int64   // bytes of its body
	begun    bool    // a part of the answer has been passed on
	lasts    bool    // the upstream takes another request
	last     bool    // the client was told that no other answer follows
	ended    bool    // the upstream has ended, and that ends the answer
	switched bool    // to another protocol
	opaque   Opacity // why the answer cannot be followed
	err      error   // why there is no whole answer
}

// over reports whether the answer is.
func (e *exchange) over() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

func newExchange(req *request) *exchange {
	return &exchange{method: req.method, upgrades: req.upgrade != "", done: make(chan struct{})}
}

// pass sends a request to an upstream, which expects ex, and returns when its answer is
// over. head is the request's as it came, sent what is to be sent of it. again: r.in does
// not begin with the request any more.
func (r *relay) pass(up *upstream, req *request, ex *exchange, head, sent []byte, again bool) (goesOn bool, err error) {
	woken, stopWaking := r.wakeAt(ex)
	if up.taker != nil {
		up.taker.Taken()
	}
	_, err = up.conn.Write(sent)
	if !again {
		r.in = r.in[req.size:]
	}
	if err == nil {
		err = r.passBody(up, req, ex, woken)
	}
	var why Opacity
	cut := errors.As(err, &why) || errors.Is(err, errAnswered)
	switch {
	case cut:
	case err != nil && r.ctx.Err() == nil:
		<-ex.done // it may have answered before it ended
	case err == nil:
		r.await(up, ex)
	}
	stopWaking()
	<-woken
	_ = r.client.SetReadDeadline(time.Time{})
	switch {
	case r.ctx.Err() != nil:
		req.watched(up, ex, context.Cause(r.ctx))
		return false, context.Cause(r.ctx)
	case cut && up.app: // the rest goes where the beginning went
		if ex.over() {
			err = ex.err
		}
		req.watched(up, ex, err)
		r.cfg.Opaque(why)
		return false, r.raw(up)
	case cut:
		req.watched(up, ex, err)
		return false, r.quit(up, err)
	case up.app:
		req.watched(up, ex, ex.err)
		return r.afterApp(req, ex, err != nil)
	}
	return r.afterHandler(up, req, ex, head, err != nil)
}

// afterApp is the end of an exchange with the app.
func (r *relay) afterApp(req *request, ex *exchange, broken bool) (goesOn bool, err error) {
	switch {
	case ex.err != nil:
		return false, ex.err
	case ex.opaque != "":
		r.cfg.Opaque(ex.opaque)
		return false, r.raw(r.app)
	case ex.switched:
		r.cfg.Opaque(Tunnelled)
		return false, r.raw(r.app)
	}
	switch over := ex.ended || broken; {
	case over:
		return false, r.endIf(true)
	case !req.lasts || !ex.lasts:
		return false, r.raw(r.app) // one of them will end it
	}
	return true, nil
}

// afterHandler is the end of an exchange with a handler.
func (r *relay) afterHandler(up *upstream, req *request, ex *exchange, head []byte, broken bool) (goesOn bool, err error) {
	if ex.err != nil && !ex.begun && req.repeats() && !up.taker.Refuses() {
		r.cfg.Log.Debug("the handler did not answer, the app does", "err", ex.err)
		req.instead(up.taker, ex.err)
		up.close()
		delete(r.handlers, up.taker)
		return r.passToApp(req, head, true)
	}
	req.watched(up, ex, ex.err)
	switch {
	case ex.err != nil:
		return false, ex.err
	case ex.switched:
		return false, r.raw(up)
	case ex.opaque != "":
		return false, r.quit(up, ex.opaque)
	}
	r.rest(up, ex)
	over := broken || !req.lasts || !ex.lasts || ex.last
	return !over, r.endIf(over)
}

// quit ends a connection whose request or answer at a handler cannot be followed:
// what comes after it may be meant for the app. What the handler has to say still
// arrives if it ends soon.
func (r *relay) quit(up *upstream, why error) error {
	up.closeWrite()
	select {
	case <-up.ended:
		return r.endIf(true)
	case <-time.After(headLimit):
	case <-r.ctx.Done():
	}
	return why
}

// passBody sends the body of a request, what the client has sent of it before and
// what is still to come.
func (r *relay) passBody(up *upstream, req *request, ex *exchange, woken <-chan struct{}) error {
	if req.body.none() {
		return nil
	}
	d := newBody(req.body)
	buf := bodies.Get().(*[]byte)
	defer bodies.Put(buf)
	b, begun := r.in, false
	for {
		n, ended, bad := d.take(b)
		begun = begun || n > 0
		if req.exchange != nil {
			req.exchange.Sent += int64(n)
		}
		req.copied(b[:n])
		if n > 0 {
			if _, err := up.conn.Write(b[:n]); err != nil {
				return err
			}
		}
		if bad != nil || ended {
			req.whole = bad == nil
			r.in = append([]byte(nil), b[n:]...)
			return bad
		}
		r.in = nil
		if r.eof {
			return Ambiguous // a body that was cut short: the upstream is to see that
		}
		n, err := r.client.Read(*buf)
		b = (*buf)[:n]
		switch {
		case errors.Is(err, io.EOF):
			r.eof = true
		case errors.Is(err, os.ErrDeadlineExceeded):
			<-woken
			_ = r.client.SetReadDeadline(time.Time{})
			if up.app && ex.err != nil {
				return ex.err
			}
			if up.app && ex.ended {
				_ = r.client.CloseWrite() // it may go on, and is told that the app does not
			}
			if !up.app && (ex.err != nil || ex.ended || !ex.lasts) {
				return errAnswered
			}
		case err != nil:
			r.fail(err)
			return err
		}
		if n > 0 && req.expects && (!begun && ex.answered.Load() || ex.over()) {
			r.in = append([]byte(nil), b...)
			return Ambiguous // the body, or the next request
		}
	}
}

// errAnswered is the end of a handler that does not wait for the rest of a body.
var errAnswered = errors.New("the handler has ended before the request")

// wakeAt wakes who reads the client when an exchange is over, unless stop is called
// before, and closes the channel when it will do so no more.
func (r *relay) wakeAt(ex *exchange) (woken <-chan struct{}, stop func()) {
	ctx, stop := context.WithCancel(r.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-ex.done:
			_ = r.client.SetReadDeadline(time.Unix(1, 0))
		case <-ctx.Done():
		}
	}()
	return done, stop
}

var bodies = sync.Pool{New: func() any { return new(make([]byte, 32<<10)) }}

// passEnd tells an upstream that the client sends no more, unless another request is
// to come before. What has come behind a request and is none is the app's now: it may
// wait for all of it before it answers.
func (r *relay) passEnd(up *upstream) {
	if len(r.in) > 0 {
		if _, err := parseRequest(r.in); err == nil || !up.app {
			return
		}
		_, _ = up.conn.Write(r.in) // its reader notices what goes wrong
		r.in = nil
	}
	up.closeWrite()
}

// await waits for the end of an answer, or of the connection. Meanwhile it goes on
// reading, so that it sees a client that goes, up to the size of a head.
func (r *relay) await(up *upstream, ex *exchange) {
	for !ex.over() && !r.eof && len(r.in) < maxHead {
		err := r.readClient()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			r.fail(err) // the upstream is to see it
			return
		}
	}
	if r.eof {
		r.passEnd(up)
	}
	select {
	case <-ex.done:
	case <-r.ctx.Done():
	}
}
