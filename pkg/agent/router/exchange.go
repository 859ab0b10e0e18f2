package router

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// exchange is a request that an upstream has been sent. What is not a channel is
// read after done.
type exchange struct {
	method   string
	upgrades bool // it offers another protocol
	done     chan struct{}

	begun    bool    // a part of the answer has been passed on
	lasts    bool    // the upstream takes another request
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

// pass sends a request to an upstream and returns when its answer is over. head is
// the request's as it came, sent what is to be sent of it. again: r.in does not begin
// with the request any more.
func (r *relay) pass(up *upstream, req *request, head, sent []byte, again bool) (goesOn bool, err error) {
	ex := &exchange{method: req.method, upgrades: req.upgrade != "", done: make(chan struct{})}
	up.expect(ex)
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
		return false, context.Cause(r.ctx)
	case cut && up == r.app: // the rest goes where the beginning went
		r.cfg.Opaque(why)
		return false, r.raw(up)
	case cut:
		return false, r.leave(up, err)
	case up == r.app:
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
	switch {
	case ex.err != nil && !ex.begun && req.repeats():
		r.cfg.Log.Debug("the handler did not answer, the app does", "err", ex.err)
		up.close()
		delete(r.handlers, up.taker)
		return r.passToApp(req, head, true)
	case ex.err != nil:
		return false, ex.err
	case ex.switched:
		return false, r.raw(up)
	case ex.opaque != "":
		return false, r.leave(up, ex.opaque)
	}
	r.rest(up, ex)
	r.comeBack()
	over := broken || !req.lasts || !ex.lasts
	return !over, r.endIf(over)
}

// leave ends a connection whose request or answer at a handler cannot be followed:
// what comes after it may be meant for the app. What the handler has to say still
// arrives if it ends soon.
func (r *relay) leave(up *upstream, why error) error {
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
	b := r.in
	for {
		n, ended, bad := d.take(b)
		if n > 0 {
			if _, err := up.conn.Write(b[:n]); err != nil {
				return err
			}
		}
		if bad != nil || ended {
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
			if up != r.app && (ex.err != nil || ex.ended || !ex.lasts) {
				return errAnswered
			}
		case err != nil:
			r.fail(err)
			return err
		}
		if n > 0 && req.expects && ex.over() {
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
		if r.eof && len(r.in) == 0 {
			up.closeWrite()
		}
	}
	select {
	case <-ex.done:
	case <-r.ctx.Done():
	}
}
