package router

import (
	"errors"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router/h2"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// Tap sees the requests and answers of a connection that goes to one place as a
// whole. It is shown what passes, and changes nothing; what it does not understand it
// does not tell of. It is safe for concurrent use.
type Tap struct {
	seen func(Exchange, *Message, *Message)
	keep int

	mu     sync.Mutex
	http2  *h2.Tap
	client half
	server half
	open   []*tapped // requests whose answers have not ended, in their order
	noted  int       // bytes of them
}

// Message is what was kept of a request or an answer.
type Message = h2.Message

// half is one direction.
type half struct {
	in     []byte // not understood yet
	cur    *tapped
	d      *body // of the message that goes on, nil at a head
	broken bool  // nothing more is understood
}

// tapped is a request on its way.
type tapped struct {
	Exchange
	asked, answered Message
}

// NewTap returns a tap that tells of each exchange when it has ended, with the first
// keep bytes of each body.
func NewTap(keep int, seen func(e Exchange, asked, answered *Message)) *Tap {
	return &Tap{seen: seen, keep: keep}
}

// asked shows what the client has sent.
func (t *Tap) asked(b []byte) { t.show(&t.client, b, t.request) }

// answered shows what the client has been answered. It is false when nothing more of
// that is understood.
func (t *Tap) answered(b []byte) bool {
	t.show(&t.server, b, t.answer)
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.server.broken
}

// Client returns the connection of a client for one who copies it; the tap is shown
// what passes, and closed with it. It has no more methods than a splice.Conn: others
// would copy past the tap.
func (t *Tap) Client(conn splice.Conn) splice.Conn { return &tappedConn{conn, t} }

type tappedConn struct {
	splice.Conn
	tap *Tap
}

func (c *tappedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.tap.asked(b[:n])
	return n, err
}

func (c *tappedConn) Write(b []byte) (int, error) {
	c.tap.answered(b)
	return c.Conn.Write(b)
}

func (c *tappedConn) Close() error {
	c.tap.Close()
	return c.Conn.Close()
}

// OnOver passes on to the connection itself, if it implements splice.Ender.
func (c *tappedConn) OnOver(over func(error)) { onOver(c.Conn, over) }

// Reset implements what splice.Reset looks for.
func (c *tappedConn) Reset() error {
	c.tap.close(true)
	return splice.Reset(c.Conn)
}

// Close tells of what has not ended.
func (t *Tap) Close() { t.close(false) }

func (t *Tap) close(reset bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.http2 != nil {
		t.http2.Close()
	}
	for _, x := range t.open {
		if cur := t.server.cur; cur == x && t.server.d != nil && t.server.d.untilEnd && !reset {
			t.end(x, "")
		} else {
			t.end(x, "the connection ended")
		}
	}
	t.forgetLocked()
}

// forgetLocked is for when nothing more is understood, nor told of.
func (t *Tap) forgetLocked() {
	t.client, t.server = half{broken: true}, half{broken: true}
	t.open, t.noted = nil, 0
}

// show understands as much as there is.
func (t *Tap) show(h *half, b []byte, next func(*half) (bool, error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case h.broken || len(b) == 0:
		return
	case t.http2 != nil && h == &t.client:
		t.http2.Client(b)
		return
	case t.http2 != nil:
		t.http2.Server(b)
		return
	}
	h.in = append(h.in, b...)
	for goesOn := true; goesOn && len(h.in) > 0; {
		var err error
		goesOn, err = next(h)
		var why Opacity
		switch {
		case errors.Is(err, errShort):
			return
		case errors.As(err, &why) && why == HTTP2 && h == &t.client && len(t.open) == 0:
			t.beginHTTP2()
			return
		case err != nil && h == &t.server:
			t.forgetLocked()
			return
		case err != nil: // what it has asked before is still answered
			h.broken, h.in = true, nil
			return
		}
	}
	if len(h.in) == 0 {
		h.in = nil
	}
}

func (t *Tap) beginHTTP2() {
	t.http2 = h2.NewTap(t.keep, t.seen)
	t.http2.Client(t.client.in[len(h2.Preface):])
	t.http2.Server(t.server.in)
	t.client.in, t.server.in = nil, nil
}

// request understands a request's head, or a part of its body.
func (t *Tap) request(h *half) (goesOn bool, err error) {
	if h.d == nil {
		req, err := parseRequest(h.in)
		if err != nil {
			return false, err
		}
		x := &tapped{Exchange: *req.begin()}
		x.asked = Message{Fields: t.fieldsOf(req.fields), Chunked: req.body.chunked}
		h.in = h.in[req.size:]
		h.cur = x
		t.open = append(t.open, x)
		t.noted += x.Size()
		if len(t.open) > maxFields || t.keep == 0 && len(t.open) > 1 && t.noted > h2.TapNotes {
			return false, TooMany // nothing more is told of
		}
		if req.body.none() {
			return true, nil
		}
		h.d = newBody(req.body)
		return true, nil
	}
	n, ended, err := h.d.take(h.in)
	h.cur.Sent += int64(n)
	h.cur.asked.Add(h.in[:n], t.keep)
	h.in = h.in[n:]
	if ended {
		h.d = nil
	}
	return true, err
}

// answer understands an answer's head, or a part of its body.
func (t *Tap) answer(h *half) (goesOn bool, err error) {
	if len(t.open) == 0 {
		if len(h.in) > maxHead {
			return false, Unasked
		}
		return false, nil // it may be the beginning of HTTP/2
	}
	x := t.open[0]
	if h.d == nil {
		a, err := parseAnswer(h.in, x.Method)
		if err != nil {
			return false, err
		}
		if a.status < 200 && a.status != 101 {
			h.in = h.in[a.size:]
			return true, nil
		}
		x.Status = a.status
		_, fields, _ := parseHead(h.in[:a.size]) // parsed before
		x.answered = Message{Fields: t.fieldsOf(fields), Chunked: a.body.chunked}
		h.in = h.in[a.size:]
		switch {
		case a.status == 101:
			t.end(x, "")
			t.open = nil
			t.client.broken, h.broken = true, true
			return false, nil
		case a.body.none():
			t.end(x, "")
			t.open = t.open[1:]
			return true, nil
		}
		h.cur, h.d = x, newBody(a.body)
		return true, nil
	}
	n, ended, err := h.d.take(h.in)
	x.Got += int64(n)
	x.answered.Add(h.in[:n], t.keep)
	h.in = h.in[n:]
	if ended {
		h.d = nil
		t.end(x, "")
		t.open = t.open[1:]
	}
	return true, err
}

func (t *Tap) end(x *tapped, failure string) {
	x.Took, x.Failure = time.Since(x.Begin), failure
	t.noted -= x.Size()
	if t.client.cur == x && t.client.d != nil {
		x.asked.Cut = true
	}
	t.seen(x.Exchange, &x.asked, &x.answered)
}

// fieldsOf returns the fields, if messages are kept.
func (t *Tap) fieldsOf(fields []field) (all []h2.Field) {
	if t.keep == 0 {
		return nil
	}
	for _, f := range fields {
		all = append(all, h2.Field{Name: f.name, Value: f.value})
	}
	return all
}
