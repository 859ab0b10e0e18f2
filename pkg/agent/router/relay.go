package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router/h2"
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

// Taker is who takes requests: a session. A stream that it opens is for the requests of
// one client.
type Taker = h2.Taker

// Config is what a connection is routed by.
type Config struct {
	// Pick returns who takes a request, nil for the app. It is asked for each.
	Pick func(Subject) Taker
	// Mirrors, if set, returns who gets a copy of a request.
	Mirrors func(Subject) []Mirror
	// Mirrored bounds what is held for them.
	Mirrored *h2.Budget
	// DialApp connects to the app. A client whose app is not reached is reset,
	// whoever would take its requests.
	DialApp func(ctx context.Context) (splice.Conn, error)
	// Opaque is told, once, why a connection cannot be looked into.
	Opaque func(Opacity)
	// Watch, if set, is asked at each request for who is told of it in the end; nil:
	// nobody.
	Watch func() func(Exchange)
	// Held bounds what connections of HTTP/2 hold.
	Held *h2.Budget
	Log  *slog.Logger
}

// Mirror is one who gets copies of requests.
type Mirror = h2.Mirror

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
	r := &relay{cfg: cfg, outer: ctx, client: client, handlers: map[Taker]*upstream{}, conns: map[splice.Conn]bool{}}
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
	cancel(nil)
	r.closeAll()
	return err
}

// relay is one connection of a client. Its goroutine, run, reads the client; each
// upstream has one that reads its answers.
type relay struct {
	cfg    Config
	outer  context.Context // of who serves: it outlives the connection
	ctx    context.Context
	fail   context.CancelCauseFunc
	client splice.Conn

	in  []byte // read from the client, not passed on yet
	eof bool   // the client sends no more

	handlers map[Taker]*upstream

	// state guards what both this goroutine and those of upstreams decide by.
	state       sync.Mutex
	app         *upstream // set by this goroutine, or while handlerLast by the app's own
	begun       bool      // the client speaks HTTP/1, or is not understood
	handlerLast bool      // a handler was asked last, so what the app says or does is not for the client
	ending      bool      // the client was told that the app has ended
	waiting     bool      // nextRequest waits, and wakeLocked may move its deadline
	redialed    time.Time // when the app was, last, for no request; zero: never
	refused     time.Time // since when the app ends its connections; zero: it does not

	mu    sync.Mutex
	conns map[splice.Conn]bool // all upstreams', for resetAll
}

// run routes requests until the client or the app has ended, or the connection is
// opaque.
func (r *relay) run() error {
	for first := true; ; first = false {
		req, err := r.nextRequest()
		var why Opacity
		isOpaque := errors.As(err, &why)
		if isOpaque && why == HTTP2 && first {
			return r.http2()
		}
		if early := r.begin(); early != "" && !isOpaque {
			isOpaque, why = true, early
		}
		switch {
		case isOpaque:
			r.cfg.Opaque(why)
			return r.rawToApp()
		case errors.Is(err, io.EOF):
			return r.finish()
		case errors.Is(err, errEnded):
			return r.endIf(true)
		case err != nil:
			return err
		}
		goesOn, err := r.exchange(req)
		switch {
		case errors.Is(err, errEnded):
			return r.endIf(true)
		case err != nil || !goesOn:
			return err
		}
	}
}

// exchange passes one request on, and its answer back. goesOn reports whether
// another request may follow.
func (r *relay) exchange(req *request) (goesOn bool, err error) {
	head := r.in[:req.size]
	req.whole = req.body.none()
	r.watch(req)
	r.copies(req, head)
	defer req.endCopies()
	defer func() { req.untold(err) }()
	taker := r.cfg.Pick(Subject{req})
	if taker == nil {
		req.forget()
		return r.passToApp(req, head, false)
	}
	if why, ended := r.leaveApp(); ended {
		return false, r.endIf(true)
	} else if why != "" {
		r.cfg.Opaque(why)
		return false, r.raw(r.app)
	}
	r.checkApp()
	up, err := r.handlerFor(taker)
	if err != nil && taker.Refuses() {
		return false, r.refuse(req, taker)
	}
	if err != nil {
		r.cfg.Log.Debug("session did not take the request", "err", err)
		req.instead(taker, err)
		req.forget()
		return r.passToApp(req, head, false)
	}
	offered := withoutUpgradeOffer(req, head)
	req.forget()
	ex := newExchange(req)
	up.expect(ex)
	return r.pass(up, req, ex, head, offered, false)
}

// refusal is the answer to a request that nobody takes.
const refusal = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"

// refuse answers that nobody takes a request, and ends the connection.
func (r *relay) refuse(req *request, taker Taker) error {
	text := h2.NobodyAnswers + "\n"
	if req.method == "HEAD" {
		text = ""
	}
	req.refused(taker)
	if _, err := fmt.Fprintf(r.client, refusal, len(text), text); err != nil {
		return err
	}
	return r.endIf(true)
}

// errEnded is the end of an app whose client was told of it: requests that came
// too late for that are not answered, and the client knows that they were not.
var errEnded = errors.New("the app has ended")

func (r *relay) isEnding() bool {
	r.state.Lock()
	defer r.state.Unlock()
	return r.ending
}

// passToApp is pass to the app.
func (r *relay) passToApp(req *request, head []byte, again bool) (goesOn bool, err error) {
	ex := newExchange(req)
	app, err := r.askApp(ex)
	if err != nil {
		return false, err
	}
	return r.pass(app, req, ex, head, head, again)
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

// rawToApp is raw to the app, for what comes between two requests.
func (r *relay) rawToApp() error {
	app, err := r.askApp(nil)
	if errors.Is(err, errEnded) {
		return r.endIf(true)
	} else if err != nil {
		return err
	}
	return r.raw(app)
}

// raw joins client and upstream for good, what has been read first.
func (r *relay) raw(up *upstream) error {
	if up.hasEnded() { // the rest of what it has begun is for nobody else
		return r.endIf(true)
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
	if app := r.lastApp(); !app.hasEnded() {
		app.closeWrite()
		select {
		case <-app.ended:
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
	r.lastApp().close()
	for _, up := range r.handlers {
		up.close()
	}
}
