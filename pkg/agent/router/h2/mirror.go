package h2

import (
	"slices"
	"time"

	"golang.org/x/net/http2"
)

// Mirror is one who gets copies of requests. Nobody waits for him, and what he answers
// is dropped.
type Mirror struct {
	Taker Taker
	// Dropped is called for each copy that is not whole.
	Dropped func()
	// Done is called once when the copy has ended.
	Done func()
}

// copies starts copies of a request.
func (r *relay) copies(f frame) {
	if r.cfg.Mirrors == nil {
		return
	}
	f.priority = http2.PriorityParam{}
	for _, to := range r.cfg.Mirrors(f.fields) {
		p := r.mirrors[to.Taker]
		if p == nil {
			p = r.newSide(to.Taker)
			p.copies, p.dropped = map[uint32]*stream{}, to.Dropped
			r.mirrors[to.Taker] = p
		}
		p.copies[f.stream] = &stream{id: f.stream, to: p, window: p.initial, done: to.Done}
		p.open++
		r.copyTo(p, f)
	}
}

// copied passes a part of a request on to its copies.
func (r *relay) copied(f frame) {
	for _, p := range r.peers {
		if p.copies[f.stream] != nil {
			r.copyTo(p, f)
		}
	}
}

func (r *relay) copyTo(p *peer, f frame) {
	c := p.copies[f.stream]
	c.clientDone = c.clientDone || f.ends
	if !p.send(f) {
		r.endCopy(p, f.stream, http2.ErrCodeCancel)
		p.dropped()
	}
}

// endCopies resets the copies of a request that its client has reset.
func (r *relay) endCopies(id uint32, code http2.ErrCode) {
	for _, p := range r.peers {
		if p.copies[id] != nil {
			r.endCopy(p, id, code)
		}
	}
}

func (r *relay) endCopy(p *peer, id uint32, code http2.ErrCode) {
	c := p.copies[id]
	delete(p.copies, id)
	p.drop(id)
	if c.opened && (!c.toDone || !c.clientDone) {
		_ = p.frames.WriteRSTStream(id, code)
	}
	p.leave()
	c.done()
	r.room.Broadcast()
}

// fromMirror drops what one says who gets copies.
func (r *relay) fromMirror(p *peer, f http2.Frame) error {
	id := f.Header().StreamID
	c := p.copies[id]
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		if c != nil && f.StreamEnded() {
			c.toDone = true
		}
	case *http2.DataFrame:
		p.owe(int(f.Length))
		if c == nil {
			return nil
		}
		if f.StreamEnded() {
			c.toDone = true
		} else if f.Length > 0 {
			_ = p.frames.WriteWindowUpdate(id, f.Length)
		}
	case *http2.RSTStreamFrame:
		if c != nil {
			c.toDone, c.clientDone = true, true // it is over
			p.dropped()
		}
	case *http2.WindowUpdateFrame:
		switch {
		case id == 0:
			p.window += int64(f.Increment)
		case c != nil:
			c.window += int64(f.Increment)
		}
		if p.window > maxWindow || c != nil && c.window > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		p.drain()
	case *http2.GoAwayFrame:
		r.retire(p)
	default:
		return r.fromSide(p, f)
	}
	if c != nil && c.toDone {
		r.endCopy(p, id, http2.ErrCodeNo)
	}
	return nil
}

// copiesLost is the end of a connection that copies go to.
func (r *relay) copiesLost(p *peer) {
	for id, c := range p.copies {
		whole := c.clientDone && p.waits[id] == 0
		r.endCopy(p, id, http2.ErrCodeCancel)
		if !whole {
			p.dropped()
		}
	}
}

// finishCopies waits for a moment until the copies of what a client has sent have been
// answered, and ends their connections: the client may have gone as soon as it was.
func (r *relay) finishCopies() {
	r.mu.Lock()
	defer r.mu.Unlock()
	late := false
	timer := time.AfterFunc(lingering, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		late = true
		r.room.Broadcast()
	})
	defer timer.Stop()
	open := func(p *peer) bool { return len(p.copies) > 0 }
	for r.ctx.Err() == nil && !late && slices.ContainsFunc(r.peers, open) {
		r.room.Wait()
	}
	r.finished = true
	for _, p := range r.peers {
		if p.copies != nil && p.conn != nil {
			_ = p.conn.Close() // its reader notices
		}
	}
}
