package netsim

import (
	"errors"
	"io"
	"net"
	"time"
)

// ending is how a flow ends; a later one outweighs an earlier.
type ending int

const (
	lives ending = iota
	fin
	rst
)

func (e ending) String() string { return [...]string{"lives", "fin", "rst"}[e] }

// flow is one direction of a pair. read takes bytes from src, write puts them
// to dst when they are due; on a link that delays nothing, read does both.
type flow struct {
	p         *pair
	other     *flow
	direction *direction
	src, dst  net.Conn      // set before read and write begin
	fill      chan struct{} // wakes read: there may be room
	drain     chan struct{} // wakes write: there may be something to pass on
	hold      time.Time     // the sender is silent until then; read's own

	// Guarded by the pair's mu.
	q       queue
	writing bool      // somebody writes to dst, without mu
	broken  bool      // dst takes nothing any more
	end     ending    // how src has ended
	endDue  time.Time // when dst may know
	ended   ending    // what dst knows
}

func newFlow(p *pair, d *direction) flow {
	return flow{p: p, direction: d, fill: make(chan struct{}, 1), drain: make(chan struct{}, 1)}
}

func (f *flow) read() {
	timer := newTimer()
	for {
		buf := f.room(timer)
		if buf == nil {
			return
		}
		n, err := f.src.Read(buf)
		if n > 0 {
			f.direction.in.Add(int64(n))
			f.take(buf[:n])
		}
		if err != nil {
			f.finish(err)
			return
		}
	}
}

// room waits until the sender may send, and returns where to put it; nil when
// the pair has ended.
func (f *flow) room(timer *time.Timer) []byte {
	for f.p.ctx.Err() == nil {
		st := f.p.r.state.Load()
		var until time.Time
		f.p.mu.Lock()
		switch {
		case f.p.half:
			defer f.p.mu.Unlock()
			return f.q.space()
		case st.frozen, f.q.size() >= st.link.window():
		case time.Until(f.hold) > 0:
			until = f.hold
		default:
			defer f.p.mu.Unlock()
			space := f.q.space()
			return space[:min(len(space), st.link.quantum())]
		}
		f.p.mu.Unlock()
		f.p.wait(st, f.fill, timer, until)
	}
	return nil
}

// take sends bytes on their way, which are at the start of the queue's space.
func (f *flow) take(b []byte) {
	f.p.mu.Lock()
	st, now := f.p.r.state.Load(), time.Now()
	switch {
	case f.p.half, f.broken:
	case st.link.direct() && !st.frozen && !st.clear.After(now) && f.q.size() == 0 && !f.writing:
		f.writing = true
		f.p.mu.Unlock()
		f.put(b, false)
		return
	default:
		sent := f.direction.lane.send(now, len(b), st.link.Rate)
		f.hold = sent.Add(-ahead)
		f.q.commit(len(b), sent.Add(max(st.link.Delay, 0)))
		notify(f.drain)
	}
	f.p.mu.Unlock()
}

// put writes to dst; writing has been set. The bytes are the queue's, or have
// never been in it.
func (f *flow) put(b []byte, queued bool) {
	n, err := f.dst.Write(b)
	f.direction.out.Add(int64(n))
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	f.writing = false
	if queued {
		f.q.release(n)
		notify(f.fill)
	} else if f.end != lives {
		notify(f.drain)
	}
	if err != nil {
		f.fail()
	}
}

// write passes on what is due, until the pair has ended.
func (f *flow) write() {
	timer := newTimer()
	for f.p.ctx.Err() == nil {
		st := f.p.r.state.Load()
		f.p.mu.Lock()
		b, pass, until := f.next(st)
		f.writing = b != nil || f.writing
		f.p.mu.Unlock()
		switch {
		case b != nil:
			f.put(b, true)
		case pass != lives:
			f.pass(pass)
		default:
			f.p.wait(st, f.drain, timer, until)
		}
	}
}

// next is what to do now: write bytes, pass an ending on, or wait until a time
// or, if that is zero, a wake. It wants mu held.
func (f *flow) next(st *state) (b []byte, pass ending, until time.Time) {
	now := time.Now()
	switch {
	case f.writing || st.frozen:
		return nil, lives, time.Time{}
	case f.p.half || f.broken:
		f.q.discard()
		notify(f.fill)
		return nil, lives, time.Time{}
	case st.clear.After(now):
		return nil, lives, st.clear
	}
	b, until = f.q.due(now)
	if f.q.size() > 0 || f.end == f.ended {
		return b, lives, until
	}
	if f.endDue.After(now) {
		return nil, lives, f.endDue
	}
	f.ended = f.end
	return nil, f.end, time.Time{}
}

// pass tells dst how the flow has ended.
func (f *flow) pass(e ending) {
	half, ok := f.dst.(interface{ CloseWrite() error })
	var err error
	if e == fin && ok {
		err = half.CloseWrite()
	}
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	switch {
	case f.p.half:
	case e == rst:
		f.p.end(true)
	case err != nil:
		f.fail()
	case !ok || f.other.ended == fin:
		f.p.end(false)
	}
}

// finish is called when src has nothing more to read.
func (f *flow) finish(err error) {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	ended := errors.Is(err, io.EOF)
	switch {
	case f.p.half && f.src != f.p.near: // we have reset it ourselves
	case f.p.half && ended:
		f.p.left.Store(true)
	case f.p.half:
		f.p.end(true)
	case ended:
		f.over(fin)
	default:
		f.over(rst)
	}
}

// fail is called when dst takes nothing more: whoever is there has reset the
// connection, and read may see no more of that than an EOF. It wants mu held.
func (f *flow) fail() {
	f.broken = true
	switch {
	case !f.p.half:
		f.other.over(rst)
	case f.dst == f.p.near:
		f.p.end(true)
	}
	f.bothDead()
}

// over makes the flow end after what is under way. It wants mu held.
func (f *flow) over(e ending) {
	if e <= f.end {
		return
	}
	f.end = e
	f.endDue = time.Now().Add(max(f.p.r.state.Load().link.Delay, 0))
	if f.endDue.Before(f.q.last) {
		f.endDue = f.q.last
	}
	notify(f.drain)
	f.bothDead()
}

// bothDead ends the pair when src has been reset and nobody is there to be
// told. It wants mu held.
func (f *flow) bothDead() {
	if f.end == rst && f.broken && !f.p.half {
		f.p.end(true)
	}
}
