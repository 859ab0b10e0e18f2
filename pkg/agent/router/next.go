package router

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// keepClient is how long a client whose last request went to a handler may be idle
	// where the app is known to end idle connections. It is what web servers allow
	// (nginx's keepalive_timeout).
	keepClient = 75 * time.Second
	// leaveClient is the same once the app refuses connections, and leaveGrace the least
	// time that is left after that is known: a request may be on its way.
	leaveClient = time.Second
	leaveGrace  = 100 * time.Millisecond
)

// nextRequest waits for the head of a request. It is io.EOF when the client sends
// no more, and an Opacity when what comes is no request to be looked at.
func (r *relay) nextRequest() (*request, error) {
	defer r.stopWaiting()
	tried := -1
	var headSince, idleSince time.Time
	for {
		if why := r.currentApp().spokeUp(); why != "" {
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
		now := time.Now()
		switch {
		case r.eof && len(r.in) > 0:
			return nil, NotHTTP
		case r.eof:
			return nil, io.EOF
		case len(r.in) > 0 && headSince.IsZero():
			headSince = now
		case idleSince.IsZero():
			idleSince = now
		}
		limit := r.wait(headSince, idleSince)
		err := r.readClient()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && (limit.IsZero() || time.Now().Before(limit)):
			// woken: another limit may apply
		case errors.Is(err, os.ErrDeadlineExceeded) && len(r.in) > 0:
			return nil, TooSlow
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, errEnded
		case err != nil:
			return nil, err
		}
	}
}

// wait sets the deadline for the client's next bytes and returns it, zero if there is
// none. headSince is when the first byte of a head came, zero if none has; idleSince is
// since when the client has sent nothing.
func (r *relay) wait(headSince, idleSince time.Time) (limit time.Time) {
	r.state.Lock()
	defer r.state.Unlock()
	switch {
	case !headSince.IsZero():
		limit = headSince.Add(headLimit)
	case r.handlerLast && !r.refused.IsZero():
		limit = idleSince.Add(leaveClient)
		if least := r.refused.Add(leaveGrace); limit.Before(least) {
			limit = least
		}
	case r.handlerLast && !r.redialed.IsZero():
		limit = idleSince.Add(keepClient)
	}
	r.waiting = true
	_ = r.client.SetReadDeadline(limit)
	return limit
}

func (r *relay) stopWaiting() {
	r.state.Lock()
	defer r.state.Unlock()
	r.waiting = false
	_ = r.client.SetReadDeadline(time.Time{})
}

// wakeLocked makes nextRequest, if it waits, compute its deadline anew.
func (r *relay) wakeLocked() {
	if r.waiting {
		_ = r.client.SetReadDeadline(time.Unix(1, 0))
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
