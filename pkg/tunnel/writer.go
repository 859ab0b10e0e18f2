package tunnel

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// smallTurn is the number of bytes up to which a turn counts as
	// interactive: its flow stays ahead of bulk.
	smallTurn = 4 << 10
	// youngFlow is how much a flow sends, from its beginning, ahead of bulk.
	youngFlow = 64 << 10
	// urgentTurns is how many turns in a row bulk lets go ahead of it.
	urgentTurns = 8
	// slowWrite is how long a write may take before the next ones get smaller.
	slowWrite = 10 * time.Millisecond
	// maxControl is how much of control frames may wait for a lane that does
	// not take them. Honest peers stay far below it.
	maxControl = 4 << 20
)

// writer is the only one who writes to the lane. It builds each write from
// control frames first, then from urgent flows, then from bulk ones, one
// frame a flow and turn.
type writer struct {
	lane net.Conn

	mu       sync.Mutex
	cond     sync.Cond // something to write, or stopped
	waiting  bool      // the writer waits on cond
	control  []byte    // encoded frames
	ping     uint64    // to be sent if not 0
	pong     uint64    // to be sent if hasPong
	hasPong  bool
	urgent   flowList
	bulk     flowList
	turns    int // of urgent flows in a row while bulk waited
	stopped  bool
	lastWord []byte // written before the lane is closed
	abort    *time.Timer

	overloaded bool

	sent  atomic.Uint64
	limit int // a write of this many bytes takes no further frame; run's own
}

// schedState is a flow's place in the writer's lists, guarded by writer.mu.
type schedState struct {
	next   *Flow
	queued bool // in a list, or having its turn
	turn   bool // having its turn
	again  bool // something happened during its turn
}

func (w *writer) init(lane net.Conn) {
	w.lane, w.limit = lane, writeFull
	w.cond.L = &w.mu
}

// adapt chooses the size of the next writes: as large as pays, but on a slow
// lane no larger than what an urgent frame can wait for.
func (w *writer) adapt(n int, took time.Duration) {
	switch {
	case took > slowWrite && n >= w.limit:
		w.limit = max(w.limit/2, maxChunk)
	case took < slowWrite/4:
		w.limit = min(w.limit*2, writeFull)
	}
}

func (w *writer) wakeLocked() {
	if w.waiting {
		w.waiting = false
		w.cond.Signal()
	}
}

// schedule gives the flow a turn. The caller may hold Flow.mu.
func (w *writer) schedule(f *Flow, urgent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &f.sched
	if s.queued {
		s.again = s.turn
		return
	}
	s.queued = true
	if urgent {
		w.urgent.push(f)
	} else {
		w.bulk.push(f)
	}
	w.wakeLocked()
}

// send queues a control frame, built by appending to the argument of frame.
// It goes out before anything of a flow scheduled later. When the peer has not
// read its answers for too long, the frame is dropped and the tunnel dies at
// the next heartbeat.
func (w *writer) send(frame func([]byte) []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.stopped:
	case len(w.control) > maxControl:
		w.overloaded = true
	default:
		w.control = frame(w.control)
		w.wakeLocked()
	}
}

func (w *writer) isOverloaded() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.overloaded
}

// sendPing asks the peer for a sign of life; an unsent one is replaced.
func (w *writer) sendPing(value uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ping = value
	w.wakeLocked()
}

// sendPong answers a PING; an unsent answer is replaced.
func (w *writer) sendPong(value uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pong, w.hasPong = value, true
	w.wakeLocked()
}

// stop lets the writer end after writing the last word. abort, which closes
// the lane under a write that is stuck, is stopped when that is done.
func (w *writer) stop(lastWord []byte, abort *time.Timer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.stopped, w.lastWord, w.abort = true, lastWord, abort
		w.wakeLocked()
	}
}

// run writes until stop, or until a write fails. fail is told why the lane cannot be written to.
func (w *writer) run(m *meter, fail func(error)) {
	defer w.end()
	batch := make([]byte, 0, writeFull+dataHeader+2*maxChunk)
	for {
		b, last := w.collect(m, batch[:0])
		if len(b) > 0 {
			start := time.Now()
			n, err := w.lane.Write(b)
			w.sent.Add(uint64(n))
			if err != nil {
				fail(err)
				return
			}
			w.adapt(len(b), time.Since(start))
		}
		if last {
			return
		}
		if cap(b) <= 2*cap(batch) {
			batch = b
		}
	}
}

func (w *writer) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.abort != nil {
		w.abort.Stop()
	}
}

// collect waits for something to write and appends it to b.
func (w *writer) collect(m *meter, b []byte) (_ []byte, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.idleLocked() {
		w.waiting = true
		w.cond.Wait()
	}
	for len(b) < w.limit {
		if w.stopped {
			return append(b, w.lastWord...), true
		}
		b = w.takeControlLocked(b)
		f, urgent := w.popLocked()
		if f == nil {
			break
		}
		f.sched.turn = true
		w.mu.Unlock()
		before := len(b)
		var more bool
		b, more = f.fill(m, b)
		w.mu.Lock()
		w.putLocked(f, more, urgent && len(b)-before <= smallTurn)
	}
	return b, false
}

func (w *writer) idleLocked() bool {
	return !w.stopped && len(w.control) == 0 && w.ping == 0 && !w.hasPong && w.urgent.head == nil && w.bulk.head == nil
}

// takeControlLocked is called before each turn, so that OPENED precedes the
// first DATA of its flow.
func (w *writer) takeControlLocked(b []byte) []byte {
	if w.ping != 0 {
		b = binary.BigEndian.AppendUint64(appendHeader(b, typePing, 0, 8, 0), w.ping)
		w.ping = 0
	}
	if w.hasPong {
		b = binary.BigEndian.AppendUint64(appendHeader(b, typePong, 0, 8, 0), w.pong)
		w.hasPong = false
	}
	if len(w.control) > 0 {
		b = append(b, w.control...)
		if w.control = w.control[:0]; cap(w.control) > maxChunk {
			w.control = nil
		}
	}
	return b
}

// popLocked chooses the flow that has its turn.
func (w *writer) popLocked() (f *Flow, urgent bool) {
	if w.bulk.head == nil {
		w.turns = 0
	}
	if w.urgent.head != nil && w.turns < urgentTurns {
		w.turns++
		return w.urgent.pop(), true
	}
	w.turns = 0
	if w.bulk.head != nil {
		return w.bulk.pop(), false
	}
	return w.urgent.pop(), true
}

// putLocked ends a turn: the flow lines up again if there is more of it.
func (w *writer) putLocked(f *Flow, more, urgent bool) {
	s := &f.sched
	more = more || s.again
	s.turn, s.again, s.queued = false, false, more
	switch {
	case !more:
	case urgent:
		w.urgent.push(f)
	default:
		w.bulk.push(f)
	}
}

// flowList is a FIFO through Flow.sched.next.
type flowList struct{ head, tail *Flow }

func (l *flowList) push(f *Flow) {
	f.sched.next = nil
	if l.tail == nil {
		l.head = f
	} else {
		l.tail.sched.next = f
	}
	l.tail = f
}

func (l *flowList) pop() *Flow {
	f := l.head
	if f == nil {
		return nil
	}
	if l.head = f.sched.next; l.head == nil {
		l.tail = nil
	}
	f.sched.next = nil
	return f
}
