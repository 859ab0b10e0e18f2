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
