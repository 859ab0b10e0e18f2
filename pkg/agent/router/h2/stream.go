package h2

import (
	"slices"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// stream is a request and its answer.
type stream struct {
	id         uint32
	to         *peer
	opened     bool // to has been sent its head
	clientDone bool // it has sent all
	toDone     bool
	window     int64 // what a side takes of it
	owed       int   // credit for what has gone to a side
	// again is the request while it may be sent to the app, should the handler
	// fail: its method is safe, it has no body, and nothing has been answered.
	again []hpack.HeaderField
	given uint32 // the client's credit meanwhile
	grpc  bool   // it is a call of gRPC

	done func() // a copy has ended

	exchange *Exchange // nil: nobody watches
	seen     func(Exchange)
}

// mayRepeat remembers the request of a stream, unless there is no room for that.
func (r *relay) mayRepeat(s *stream, fields []hpack.HeaderField) {
	if r.cfg.Held.take(sizeOf(fields), false) {
		s.again = fields
	}
}

// forgetRequest is for when it is not repeated any more.
func (r *relay) forgetRequest(s *stream) {
	r.cfg.Held.Give(sizeOf(s.again))
	s.again = nil
}

// resetUp resets a stream towards its upstream and forgets it.
func (r *relay) resetUp(s *stream, code http2.ErrCode) {
	s.to.drop(s.id)
	if s.opened {
		_ = s.to.frames.WriteRSTStream(s.id, code)
	}
	r.remove(s)
}

// tidy forgets a stream that is over.
func (r *relay) tidy(s *stream) {
	if s != nil && s.clientDone && s.toDone && s.to.waits[s.id] == 0 {
		r.remove(s)
	}
}

// cutOff notes that the client may say more on a stream that is over, since it does not
// know yet.
func (r *relay) cutOff(id uint32) {
	const most = 256
	if len(r.cut) == most {
		r.cutMany = max(r.cutMany, r.cut[0])
		r.cut = slices.Delete(r.cut, 0, 1)
	}
	r.cut = append(r.cut, id)
}

// mayBeLate reports whether that is so.
func (r *relay) mayBeLate(id uint32) bool { return id <= r.cutMany || slices.Contains(r.cut, id) }

func (r *relay) remove(s *stream) {
	if r.streams[s.id] != s {
		return
	}
	delete(r.streams, s.id)
	r.watched(s)
	if !s.clientDone {
		r.cutOff(s.id)
		r.endCopies(s.id, http2.ErrCodeCancel) // nobody says the rest of it
	}
	r.forgetRequest(s)
	p := s.to
	p.leave()
	if !p.side {
		return
	}
	p.drop(s.id)
	r.asides--
	r.endIfOver()
}
