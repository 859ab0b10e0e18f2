package router

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
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
	// DialApp connects to the app.
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
	r := &relay{cfg: cfg, client: client, handlers: map[Taker]*upstream{}}
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

	busy   atomic.Pointer[upstream] // which answers now
	ending atomic.Bool              // the client was told that the app has ended

	mu    sync.Mutex
	conns []splice.Conn // all upstreams', for resetAll
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
		if len(r.in) > 0 && (tried < 0 || tried < len(clientPreface) || bytes.IndexByte(r.in[tried:], '\n') >= 0 || len(r.in) >= maxHead) {
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
		case r.ending.Load() && len(r.in) > 0:
			return nil, errors.New("the app has ended")
		}
	}
}

// clientPreface begins a connection of HTTP/2.
const clientPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

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
	taker := r.cfg.Pick(Subject{req})
	if taker == nil {
		return r.pass(r.appFor(), req, r.in[:req.size], false)
	}
	up, err := r.handlerFor(taker)
	if err != nil {
		r.cfg.Log.Debug("session did not take the request", "err", err)
		return r.pass(r.appFor(), req, r.in[:req.size], false)
	}
	return r.pass(up, req, withoutUpgradeOffer(req, r.in[:req.size]), false)
}

// pass sends a request to an upstream and returns when its answer is over. again:
// r.in does not begin with the request any more.
func (r *relay) pass(up *upstream, req *request, head []byte, again bool) (goesOn bool, err error) {
	if up == nil {
		return false, errors.New("the app is not reached")
	}
	ex := &exchange{method: req.method, done: make(chan struct{})}
	up.expect(ex)
	if up.taker != nil {
		up.taker.Taken()
	}
	_, err = up.conn.Write(head)
	if !again {
		r.in = r.in[req.size:]
	}
	if err == nil {
		err = r.passBody(up, req, ex)
	}
	var why Opacity
	switch {
	case errors.As(err, &why): // the rest goes where the beginning went
		r.cfg.Opaque(why)
		return false, r.raw(up)
	case err != nil && r.ctx.Err() == nil:
		// It may have answered before it ended.
		<-ex.done
		if ex.err != nil || ex.lasts {
			return false, err
		}
		return false, r.finish()
	case err != nil:
		return false, err
	}
	if err := r.await(up, ex); err != nil {
		return false, err
	}
	switch {
	case ex.err != nil && up != r.app && !ex.begun && req.repeats():
		r.cfg.Log.Debug("the handler did not answer, the app does", "err", ex.err)
		up.close()
		delete(r.handlers, up.taker)
		return r.pass(r.appFor(), req, head, true)
	case ex.err != nil:
		return false, ex.err
	case ex.opaque != "":
		r.cfg.Opaque(ex.opaque)
		return false, r.raw(up)
	case ex.switched:
		if up == r.app {
			r.cfg.Opaque(Tunnelled)
		}
		return false, r.raw(up)
	case up == r.app:
		return !ex.ended, r.endIf(ex.ended)
	}
	r.rest(up, ex)
	return req.lasts && ex.lasts, r.endIf(!req.lasts || !ex.lasts)
}

// endIf ends the connection to the client where it is over.
func (r *relay) endIf(over bool) error {
	if !over {
		return nil
	}
	if err := r.client.CloseWrite(); err != nil {
		return err
	}
	// Closing with bytes unread would reset what the client has not read yet.
	_ = r.client.SetReadDeadline(time.Now().Add(headLimit))
	_, _ = io.CopyN(io.Discard, r.client, 1<<20)
	return nil
}

// passBody sends the body of a request, what the client has sent of it before and
// what is still to come.
func (r *relay) passBody(up *upstream, req *request, ex *exchange) error {
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
		switch {
		case r.eof:
			return Ambiguous // a body that was cut short: the upstream is to see that
		case req.expects && ex.over():
			return Ambiguous // the client may or may not send the body now
		}
		n, err := r.client.Read(*buf)
		b = (*buf)[:n]
		if errors.Is(err, io.EOF) {
			r.eof = true
		} else if err != nil {
			r.fail(err)
			return err
		}
	}
}

var bodies = sync.Pool{New: func() any { return new(make([]byte, 32<<10)) }}

// await waits for the end of an answer. Meanwhile it goes on reading, so that it
// sees a client that goes, up to the size of a head.
func (r *relay) await(up *upstream, ex *exchange) error {
	woken := make(chan struct{})
	go func() {
		defer close(woken)
		<-ex.done
		_ = r.client.SetReadDeadline(time.Unix(1, 0))
	}()
	defer func() {
		<-woken
		_ = r.client.SetReadDeadline(time.Time{})
	}()
	for !ex.over() && !r.eof && len(r.in) < maxHead {
		err := r.readClient()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			r.fail(err) // the upstream is to see it
			return err
		}
		if r.eof && len(r.in) == 0 {
			up.closeWrite()
		}
	}
	select {
	case <-ex.done:
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

// appFor returns the app's connection, a new one when it has ended while a handler
// answered; nil when it is not reached.
func (r *relay) appFor() *upstream {
	if !r.app.hasEnded() {
		return r.app
	}
	conn, err := r.cfg.DialApp(r.ctx)
	if err != nil {
		r.cfg.Log.Debug("app not reached", "err", err)
		return nil
	}
	r.app.close()
	r.app = r.follow(conn, true)
	return r.app
}

// handlerFor returns the connection to who takes a request.
func (r *relay) handlerFor(taker Taker) (*upstream, error) {
	if up := r.handlers[taker]; up != nil {
		if up.wake() {
			return up, nil
		}
		up.close()
		delete(r.handlers, taker)
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
	r.busy.Store(up)
	if up.hasEnded() && up == r.app && !up.raw {
		if up = r.appFor(); up == nil {
			return errors.New("the app is not reached")
		}
	}
	err := up.stop()
	if err != nil {
		return err
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
	return r.client.CloseWrite()
}

func (r *relay) track(conn splice.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, conn)
	if r.ctx.Err() != nil {
		_ = splice.Reset(conn)
	}
}

func (r *relay) resetAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range append(r.conns, r.client) {
		_ = splice.Reset(conn)
	}
}

// closeAll ends every upstream and waits for its goroutine.
func (r *relay) closeAll() {
	_ = r.client.Close()
	r.app.close()
	for _, up := range r.handlers {
		up.close()
	}
}
