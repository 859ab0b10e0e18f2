package h2

import (
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/net/http2/hpack"
)

// Exchange is a request and its answer, as far as they were seen.
type Exchange struct {
	Begin    time.Time
	Took     time.Duration
	Protocol string // HTTP/1.0, HTTP/1.1 or HTTP/2
	Method   string
	Host     string
	Path     string // with the query, as it was sent
	Status   int    // 0: no answer came
	GRPC     string // the status of gRPC; "" if it is none
	Sent     int64  // bytes of the request's body, with its framing
	Got      int64  // bytes of the answer's
	Taker    Taker  // who answered; nil: the app
	Failure  string // why there is no whole answer
	// Meant is who took the request but did not answer, which the app does instead;
	// Instead says why.
	Meant   Taker
	Instead string
}

// Message is what was kept of a request or an answer.
type Message struct {
	Fields []Field // the head, and trailers of HTTP/2
	// Body is its beginning, in HTTP/1 with the framing of chunks.
	Body []byte
	// Chunked says that the body is framed so; Cut that Body is not the whole.
	Chunked, Cut bool
}

// Field is one line of a head, as it was sent.
type Field struct{ Name, Value string }

// Add keeps a part of a body, as long as no more than keep bytes are kept.
func (m *Message) Add(b []byte, keep int) {
	room := min(keep-len(m.Body), len(b))
	m.Body = append(m.Body, b[:room]...)
	m.Cut = m.Cut || room < len(b)
}

// NotFollowed is the Failure of an exchange that nobody sees the end of.
const NotFollowed = "not followed: too many requests at once"

// maxNoted bounds a name or a path that is noted, in bytes.
const maxNoted = 2 << 10

// Clip returns what is noted of a name or a path.
func Clip(s string) string {
	if len(s) > maxNoted {
		return strings.Clone(s[:maxNoted])
	}
	return s
}

// ask notes what a request's head tells.
func (e *Exchange) ask(fields []hpack.HeaderField) {
	e.Begin, e.Protocol = time.Now(), "HTTP/2"
	for _, f := range fields {
		switch f.Name {
		case ":method":
			e.Method = Clip(f.Value)
		case ":path":
			e.Path = Clip(f.Value)
		case ":authority":
			e.Host = Clip(f.Value)
		case "host":
			if e.Host == "" {
				e.Host = Clip(f.Value)
			}
		}
	}
}

// answer notes what the head or the trailers of an answer tell.
func (e *Exchange) answer(fields []hpack.HeaderField) {
	for _, f := range fields {
		switch f.Name {
		case ":status":
			e.Status, _ = strconv.Atoi(f.Value) // else it is malformed, and 0
		case "grpc-status":
			e.GRPC = Clip(f.Value)
		}
	}
}

// end passes the exchange on.
func (e *Exchange) end(seen func(Exchange), failure string) {
	e.Took, e.Failure = time.Since(e.Begin), failure
	seen(*e)
}

// watch begins the exchange of a stream if somebody watches.
func (r *relay) watch(s *stream, fields []hpack.HeaderField) {
	if r.cfg.Watch == nil {
		return
	}
	if s.seen = r.cfg.Watch(); s.seen == nil {
		return
	}
	e := &Exchange{Taker: s.to.taker}
	e.ask(fields)
	if !r.cfg.Held.note(e.Size()) {
		e.end(s.seen, NotFollowed)
		return
	}
	s.exchange = e
}

// Size is how much memory an exchange takes that has begun, about.
func (e *Exchange) Size() int {
	return int(unsafe.Sizeof(*e)) + len(e.Method) + len(e.Host) + len(e.Path)
}

// watched ends the exchange of a stream.
func (r *relay) watched(s *stream) {
	if s.exchange == nil {
		return
	}
	r.cfg.Held.noted.Add(int64(-s.exchange.Size()))
	s.exchange.Taker = s.to.taker
	failure := s.exchange.Failure
	if failure == "" && !s.toDone {
		failure = "reset"
	}
	s.exchange.end(s.seen, failure)
	s.exchange = nil
}
