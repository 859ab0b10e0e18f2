package router

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

const (
	// headLimit is how long a head may take to arrive from its first byte on.
	headLimit = 5 * time.Second
	// keepHandler is how long a handler's connection is kept for the next request
	// of the same client: a handler that serves one connection at a time hangs
	// while it waits on an idle one.
	keepHandler = time.Second
)

// Taker is who takes a request: a session.
type Taker interface {
	// Open offers a stream for the requests of one client. An error means that the
	// app is to answer.
	Open(ctx context.Context) (splice.Conn, error)
	// Taken is told of each request that is sent.
	Taken()
	// Ended is closed when no more requests may be offered.
	Ended() <-chan struct{}
}

// Config is what a connection is routed by.
type Config struct {
	// Pick returns who takes a request, nil for the app. It is asked for each.
	Pick func(Subject) Taker
	// DialApp connects to the app. A client whose app is not reached is reset,
	// whoever would take its requests.
	DialApp func(ctx context.Context) (splice.Conn, error)
	// Opaque is told, once, why a connection cannot be looked into.
	Opaque func(Opacity)
	Log    *slog.Logger
}

// Subject is a request to be picked for.
type Subject struct{ r *request }

// Matches reports whether a rule is about the request.
func (s Subject) Matches(m Match) bool { return m.matches(s.r) }

// Serve routes the requests of one connection until it ends, or ctx does, which
// resets it. It closes client. The error says why it did not end well.
func Serve(ctx context.Context, client splice.Conn, cfg Config) error {
	app, err := cfg.DialApp(ctx)
	if err != nil {
		_ = splice.Reset(client)
		return err
	}
	r := &relay{cfg: cfg, client: client, handlers: map[Taker]*upstream{}, conns: map[splice.Conn]bool{}}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.ctx, r.fail = ctx, cancel
	stop := context.AfterFunc(ctx, func() { r.resetAll() })
	r.app = r.follow(app, true)
	err = r.run()
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		r.resetAll()
	}
	r.closeAll()
	return err
}

// relay is one connection of a client. Its goroutine, run, reads the client; each
// upstream has one that reads its answers.
type relay struct {
	cfg    Config
	ctx    context.Context
	fail   context.CancelCauseFunc
	client splice.Conn

	in  []byte // read from the client, not passed on yet
	eof bool   // the client sends no more

	app      *upstream
	handlers map[Taker]*upstream

	// state guards what both this goroutine and those of upstreams decide by.
	state  sync.Mutex
	away   bool // a handler is asked, so what the app says or does is not for the client
	ending bool // the client was told that the app has ended

	mu    sync.Mutex
	conns map[splice.Conn]bool // all upstreams', for resetAll
}

// run routes requests until the client or the app has ended, or the connection is
// opaque.
func (r *relay) run() error {
	for {
		req, err := r.nextRequest()
		var why Opacity
		switch {
		case errors.As(err, &why):
			r.cfg.Opaque(why)
			return r.raw(r.app)
		case errors.Is(err, io.EOF):
			return r.finish()
		case errors.Is(err, errEnded):
			return r.endIf(true)
		case err != nil:
			return err
		}
		goesOn, err := r.exchange(req)
		if err != nil || !goesOn {
			return err
		}
	}
}

// nextRequest waits for the head of a request. It is io.EOF when the client sends
// no more, and an Opacity when what comes is no request to be looked at.
func (r *relay) nextRequest() (*request, error) {
	defer func() { _ = r.client.SetReadDeadline(time.Time{}) }()
	tried, limited := -1, false
	for {
		if why := r.app.spokeUp(); why != "" {
			return nil, why
		}
		if r.isEnding() {
			return nil, errEnded
		}
		if len(r.in) > 0 && (tried < foreignBytes || bytes.IndexByte(r.in[tried:], '\n') >= 0 || len(r.in) >= maxHead) {
			req, err := parseRequest(r.in)
			if !errors.Is(err, errShort) {
				return req, err
			}
			tried = len(r.in)
		}
		switch {
		case r.eof && len(r.in) > 0:
			return nil, NotHTTP
		case r.eof:
			return nil, io.EOF
		case len(r.in) > 0 && !limited:
			limited = true
			_ = r.client.SetReadDeadline(time.Now().Add(headLimit))
		}
		err := r.readClient()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, TooSlow
		case err != nil:
			return nil, err
		}
	}
}

// readClient reads more of what the client sends; r.eof notes the end.
func (r *relay) readClient() error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	n, err := r.client.Read(*buf)
	r.in = append(r.in, (*buf)[:n]...)
	if errors.Is(err, io.EOF) {
		r.eof = true
		return nil
	}
	return err
}

var buffers = sync.Pool{New: func() any { return new(make([]byte, 8<<10)) }}

// exchange passes one request on, and its answer back. goesOn reports whether
// another request may follow.
func (r *relay) exchange(req *request) (goesOn bool, err error) {
	head := r.in[:req.size]
	taker := r.cfg.Pick(Subject{req})
	if taker == nil {
		req.forget()
		return r.passToApp(req, head, false)
	}
	if why, ended := r.goAway(); ended {
		return false, r.endIf(true)
	} else if why != "" {
		r.cfg.Opaque(why)
		return false, r.raw(r.app)
	}
	up, err := r.handlerFor(taker)
	if err != nil {
		r.cfg.Log.Debug("session did not take the request", "err", err)
		req.forget()
		return r.passToApp(req, head, false)
	}
	offered := withoutUpgradeOffer(req, head)
	req.forget()
	return r.pass(up, req, head, offered, false)
}

// errEnded is the end of an app whose client was told of it: requests that came
// too late for that are not answered, and the client knows that they were not.
var errEnded = errors.New("the app has ended")

func (r *relay) isEnding() bool {
	r.state.Lock()
	defer r.state.Unlock()
	return r.ending
}

// goAway notes that a handler is asked from now on, unless the app has spoken or
// ended before.
func (r *relay) goAway() (why Opacity, ended bool) {
	r.state.Lock()
	defer r.state.Unlock()
	r.away = !r.ending && r.app.unasked == ""
	return r.app.unasked, r.ending
}

func (r *relay) comeBack() {
	r.state.Lock()
	defer r.state.Unlock()
	r.away = false
}

// passToApp is pass to the app.
func (r *relay) passToApp(req *request, head []byte, again bool) (goesOn bool, err error) {
	app, err := r.appFor()
	if err != nil {
		return false, err
	}
	r.comeBack()
	return r.pass(app, req, head, head, again)
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

// endIf ends the connection to the client where it is over.
func (r *relay) endIf(over bool) error {
	if !over {
		return nil
	}
	_ = r.client.CloseWrite() // it may have gone
	// Closing with bytes unread would reset what the client has not read yet.
	_ = r.client.SetReadDeadline(time.Now().Add(headLimit))
	_, _ = io.CopyN(io.Discard, r.client, 1<<20)
	return nil
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

// appFor returns the app's connection, a new one when it has ended while a handler
// answered.
func (r *relay) appFor() (*upstream, error) {
	if !r.app.hasEnded() {
		return r.app, nil
	}
	if r.isEnding() {
		return nil, errEnded
	}
	conn, err := r.cfg.DialApp(r.ctx)
	if err != nil {
		return nil, err
	}
	r.app.close()
	app := r.follow(conn, true)
	r.state.Lock()
	defer r.state.Unlock()
	r.app = app
	return app, nil
}

// handlerFor returns the connection to who takes a request.
func (r *relay) handlerFor(taker Taker) (*upstream, error) {
	for other, up := range r.handlers {
		switch {
		case other == taker && up.wake():
			return up, nil
		case other == taker || up.hasEnded():
			up.close()
			delete(r.handlers, other)
		}
	}
	conn, err := taker.Open(r.ctx)
	if err != nil {
		return nil, err
	}
	up := r.follow(conn, false)
	up.taker = taker
	r.handlers[taker] = up
	return up, nil
}

// rest keeps a handler's connection for a moment.
func (r *relay) rest(up *upstream, ex *exchange) {
	select {
	case <-up.taker.Ended():
	default:
		if ex.lasts {
			up.idle()
			return
		}
	}
	up.close()
	delete(r.handlers, up.taker)
}

// raw joins client and upstream for good, what has been read first.
func (r *relay) raw(up *upstream) error {
	if up == r.app {
		var err error
		if up, err = r.appFor(); errors.Is(err, errEnded) {
			return r.endIf(true)
		} else if err != nil {
			return err
		}
	}
	err := up.stop()
	if err != nil {
		return err
	}
	if r.isEnding() {
		return r.endIf(true)
	}
	if len(r.in) > 0 {
		if _, err := up.conn.Write(r.in); err != nil {
			return err
		}
		r.in = nil
	}
	_, err = splice.Splice(r.ctx, r.client, up.finishing())
	return err
}

// finish is the end of a client that has sent all: the app gets to know, and may
// have more to say.
func (r *relay) finish() error {
	if !r.app.hasEnded() {
		r.app.closeWrite()
		select {
		case <-r.app.ended:
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
	}
	return r.endIf(true)
}

func (r *relay) track(conn splice.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[conn] = true
	if r.ctx.Err() != nil {
		_ = splice.Reset(conn)
	}
}

func (r *relay) untrack(conn splice.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, conn)
}

func (r *relay) resetAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.conns {
		_ = splice.Reset(conn)
	}
	_ = splice.Reset(r.client)
}

// closeAll ends every upstream and waits for its goroutine.
func (r *relay) closeAll() {
	_ = r.client.Close()
	r.app.close()
	for _, up := range r.handlers {
		up.close()
	}
}
