package h2

import (
	"bytes"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

const (
	// frameSize is the largest frame that is read or written: what every peer must
	// take (RFC 9113, 4.2). Nobody is told of more.
	frameSize = 16 << 10
	// startWindow is what a peer may send before it has been told anything (6.9.2).
	startWindow = 65535
	// maxWindow is the largest window there is (6.9.1).
	maxWindow = 1<<31 - 1
	// maxOut is how much waits to be written to a peer before those who can wait do.
	maxOut = 64 << 10
	// leastOut is the same while the budget is tight.
	leastOut = 4 << 10
	// maxFlood is how much may wait where nobody can wait: acknowledgements, resets
	// and credit for a peer that asks for ever more of them and reads none. While the
	// budget is tight, it is maxOut.
	maxFlood = 1 << 20
	// copiesHeld is what is held for one who gets copies, while the budget is ample.
	copiesHeld = 512 << 10
	// maxUnacked is how many settings of a client, and how many pings, are known to be
	// without the app's acknowledgement; clients have one or two.
	maxUnacked = 8
	// maxHeld bounds the frames that are held for a peer, whatever their size.
	maxHeld = 4096
	// heldAnyway is how much may be held for a peer whatever the budget says: those
	// who have used it up do not take it from everybody else.
	heldAnyway = 16 << 10
	// creditStep is how much of a connection's window is given back at once.
	creditStep = 16 << 10
)

// peer is one of the connections that are joined: as what is written to it. All of it
// is guarded by relay.mu.
type peer struct {
	r    *relay
	conn splice.Conn // nil until it is open
	main bool        // the app's own connection
	side bool        // a handler's, or one of the app's for streams that come back

	taker  Taker // of a handler's
	closed bool  // nothing is sent any more
	leaves bool  // it is closed when its last stream has ended
	open   int   // streams that lead to it

	copies  map[uint32]*stream // of one who gets copies; nil: they are the relay's
	dropped func()             // a copy is not whole

	out     []byte // encoded frames, nil: none
	writing bool   // someone writes
	finish  bool   // it is closed for writing once everything is written
	kick    chan struct{}
	gone    chan struct{} // closed when its connection has ended; nil: with the relay
	frames  *http2.Framer // writes to out
	headers *hpack.Encoder
	block   bytes.Buffer // of headers

	window  int64 // what the connection takes
	initial int64 // what a new stream takes
	owed    int   // credit for what it sent that it was not told of
	held    []frame
	holds   int            // bytes of them
	waits   map[uint32]int // how many frames of a stream are held
	heads   int            // how many new streams are held
}

// frame is what is said on one stream.
type frame struct {
	stream   uint32
	fields   []hpack.HeaderField // a head or trailers, if not nil
	priority http2.PriorityParam
	opens    bool // the head of a request
	data     []byte
	ends     bool // the last of its sender
	reset    bool // with code
	code     http2.ErrCode
	credit   uint32 // a WINDOW_UPDATE
	from     *peer  // who is given the connection's window back; nil: nobody
}

// size is how much memory the frame takes.
func (f *frame) size() int { return len(f.data) + sizeOf(f.fields) }

// sizeOf is how much memory fields take, about.
func sizeOf(fields []hpack.HeaderField) (n int) {
	for _, f := range fields {
		n += int(f.Size())
	}
	return n
}

// isData reports whether the frame is subject to flow control.
func (f *frame) isData() bool { return f.fields == nil && !f.reset && f.credit == 0 }

func newPeer(r *relay, conn splice.Conn) *peer {
	p := &peer{
		r: r, conn: conn, kick: make(chan struct{}, 1), waits: map[uint32]int{},
		window: startWindow, initial: startWindow,
	}
	p.frames = http2.NewFramer(outWriter{p}, nil)
	p.headers = hpack.NewEncoder(&p.block)
	return p
}

type outWriter struct{ p *peer }

func (w outWriter) Write(b []byte) (int, error) {
	if w.p.closed {
		return len(b), nil
	}
	if w.p.out == nil {
		w.p.out = *outs.Get().(*[]byte)
	}
	w.p.r.cfg.Held.unsent.Add(int64(len(b)))
	w.p.out = append(w.p.out, b...)
	return len(b), nil
}

// outs are buffers to write from: a peer that is quiet has none.
var outs = sync.Pool{New: func() any { return new(make([]byte, 0, 4<<10)) }}

// send sends a frame, or holds it until the peer takes it, in the order of its
// stream. It is false when no more can be held.
func (p *peer) send(f frame) bool {
	room := p.roomFor(&f)
	// A new stream does not overtake another: their numbers rise (5.1.1).
	inTurn := p.takes() && p.waits[f.stream] == 0 && (!f.opens || p.heads == 0)
	if p.main || inTurn && (!f.isData() || room >= len(f.data)) {
		p.emit(f)
		return true
	}
	if !inTurn {
		room = 0
	}
	size := f.size() - room
	// What the app may send unasked is bounded by its window.
	wanted := f.from != nil && f.from.main
	if p.copies != nil && (p.holds+size > copiesHeld || !p.r.cfg.Held.ample()) {
		return false
	}
	if !p.r.cfg.Held.take(size, wanted || p.holds+size <= heldAnyway) {
		return false
	}
	if len(p.held) >= maxHeld && !wanted {
		p.r.cfg.Held.Give(size)
		return false
	}
	if room > 0 {
		p.emitPart(&f, room)
	}
	f.data = bytes.Clone(f.data)
	p.held = append(p.held, f)
	p.holds += size
	p.waits[f.stream]++
	if f.opens {
		p.heads++
	}
	return true
}

// takes reports whether anything may be sent now. A handler's connection is never
// waited for.
func (p *peer) takes() bool { return p.conn != nil && (!p.side || !p.full()) }

// leave is one stream less that leads to the peer.
func (p *peer) leave() {
	if p.open--; p.leaves && p.open == 0 {
		p.finish = true
	}
}

// full reports whether so much waits to be written that no more should be added.
func (p *peer) full() bool {
	return len(p.out) > maxOut || len(p.out) > leastOut && p.r.cfg.Held.tight()
}

// flooded reports whether more waits than even what cannot wait may be.
func (p *peer) flooded() bool {
	return len(p.out) > maxFlood || len(p.out) > maxOut && p.r.cfg.Held.tight()
}

// give gives back what was taken to hold bytes.
func (p *peer) give(n int) {
	p.holds -= n
	p.r.cfg.Held.Give(n)
}

// stream returns a stream that leads to the peer, nil if there is none.
func (p *peer) stream(id uint32) *stream {
	if p.copies != nil {
		return p.copies[id]
	}
	return p.r.streams[id]
}

// roomFor is how much of a frame's data the peer takes.
func (p *peer) roomFor(f *frame) int {
	room := p.window
	if p.side {
		if s := p.stream(f.stream); s != nil {
			room = min(room, s.window)
		}
	}
	return int(max(0, room))
}

// emitPart emits the first n bytes of data and leaves the rest.
func (p *peer) emitPart(f *frame, n int) {
	first := *f
	first.data, first.ends = f.data[:n], false
	f.data = f.data[n:]
	p.emit(first)
}

// drain sends what is held and may go now.
func (p *peer) drain() {
	if len(p.held) == 0 {
		return
	}
	kept := p.held[:0]
	var blocked map[uint32]bool
	for i := range p.held {
		f := p.held[i]
		if blocked[f.stream] || p.full() || p.conn == nil {
			kept = append(kept, f)
			continue
		}
		if room := p.roomFor(&f); f.isData() && room < len(f.data) {
			if room > 0 {
				p.give(room)
				p.emitPart(&f, room)
			}
			if blocked == nil {
				blocked = map[uint32]bool{}
			}
			blocked[f.stream] = true
			kept = append(kept, f)
			continue
		}
		p.give(f.size())
		p.released(&f)
		p.emit(f)
		if p.side && p.copies == nil {
			p.r.tidy(p.r.streams[f.stream])
		}
	}
	clear(p.held[len(kept):])
	p.held = kept
}

func (p *peer) released(f *frame) {
	if f.opens {
		p.heads--
	}
	if p.waits[f.stream]--; p.waits[f.stream] <= 0 {
		delete(p.waits, f.stream)
	}
}

// drop forgets what is held of a stream.
func (p *peer) drop(stream uint32) {
	if p.waits[stream] == 0 {
		return
	}
	kept := p.held[:0]
	for _, f := range p.held {
		if f.stream != stream {
			kept = append(kept, f)
			continue
		}
		p.give(f.size())
		if f.opens {
			p.heads--
		}
		if f.from != nil {
			f.from.owe(len(f.data))
		}
	}
	clear(p.held[len(kept):])
	p.held = kept
	delete(p.waits, stream)
}

// emit writes a frame to out, within the windows.
func (p *peer) emit(f frame) {
	switch {
	case f.fields != nil:
		if s := p.stream(f.stream); f.opens && s != nil {
			s.opened = true
			if p.taker != nil {
				p.taker.Taken()
			}
		}
		p.emitHead(f)
	case f.reset:
		_ = p.frames.WriteRSTStream(f.stream, f.code)
	case f.credit > 0:
		_ = p.frames.WriteWindowUpdate(f.stream, f.credit)
	default:
		_ = p.frames.WriteData(f.stream, f.ends, f.data)
		p.window -= int64(len(f.data))
		if s := p.stream(f.stream); p.side && s != nil {
			s.window -= int64(len(f.data))
			if p.copies == nil {
				p.r.oweStream(s, len(f.data))
			}
		}
		if f.from != nil {
			f.from.owe(len(f.data))
		}
	}
}

func (p *peer) emitHead(f frame) {
	p.block.Reset()
	for _, field := range f.fields {
		_ = p.headers.WriteField(field) // to a bytes.Buffer
	}
	const priorityBytes = 5
	rest := p.block.Bytes()
	first := rest[:min(len(rest), frameSize-priorityBytes)]
	rest = rest[len(first):]
	_ = p.frames.WriteHeaders(http2.HeadersFrameParam{
		StreamID: f.stream, BlockFragment: first, EndStream: f.ends, EndHeaders: len(rest) == 0, Priority: f.priority,
	})
	for len(rest) > 0 {
		next := rest[:min(len(rest), frameSize)]
		rest = rest[len(next):]
		_ = p.frames.WriteContinuation(f.stream, len(rest) == 0, next)
	}
}

// owe gives the peer credit for n bytes that it has sent, some time.
func (p *peer) owe(n int) {
	if p.owed += n; p.owed >= creditStep && p.conn != nil {
		_ = p.frames.WriteWindowUpdate(0, uint32(p.owed))
		p.owed = 0
	}
}

// learn applies a setting that the peer has told.
func (p *peer) learn(s http2.Setting) {
	switch s.ID {
	case http2.SettingHeaderTableSize:
		p.headers.SetMaxDynamicTableSize(min(s.Val, tableSize))
	case http2.SettingInitialWindowSize:
		change := int64(s.Val) - p.initial
		p.initial = int64(s.Val)
		if !p.side {
			return
		}
		for _, streams := range []map[uint32]*stream{p.r.streams, p.copies} {
			for _, stream := range streams {
				if stream.to == p {
					stream.window += change
				}
			}
		}
		p.drain()
	}
}

// wake has out written by the peer's goroutine.
func (p *peer) wake() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// flush writes out, unless somebody is at it. It unlocks relay.mu meanwhile.
func (p *peer) flush() {
	if p.writing || p.conn == nil {
		return
	}
	p.writing = true
	for len(p.out) > 0 && !p.closed {
		b := p.out
		p.out = nil
		p.r.mu.Unlock()
		_, err := p.conn.Write(b)
		p.r.cfg.Held.unsent.Add(int64(-len(b)))
		b = b[:0]
		outs.Put(&b)
		p.r.mu.Lock()
		if err != nil {
			p.r.notWritten(p, err)
		}
		p.drain()
		p.r.endIfOver()
		p.r.room.Broadcast()
	}
	p.writing = false
	p.r.room.Broadcast()
	if p.finish && !p.closed && (len(p.held) == 0 || p.r.ended) {
		p.closed = true
		_ = p.conn.CloseWrite() // the reader notices what goes wrong
	}
}

// shut forgets everything that is to be sent.
func (p *peer) shut() {
	p.closed = true
	p.r.cfg.Held.unsent.Add(int64(-len(p.out)))
	p.out = nil
	p.give(p.holds)
	p.held, p.waits, p.heads = nil, map[uint32]int{}, 0
	p.r.room.Broadcast()
}

// write is the peer's goroutine: it writes what nobody else has written.
func (p *peer) write() {
	over := p.r.over
	if p.copies != nil { // they are finished after the relay has ended
		over = nil
	}
	for {
		select {
		case <-p.kick:
		case <-p.gone:
			return
		case <-over:
			return
		}
		p.r.mu.Lock()
		p.flush()
		p.r.mu.Unlock()
	}
}
