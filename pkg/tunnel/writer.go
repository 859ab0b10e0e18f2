package tunnel

import (
	"cmp"
	"math"
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
	// eagerSize is what makes a write by itself.
	eagerSize = 16 << 10
	// leastTurn is how much of a write has to be left for another turn.
	leastTurn = 1 << 10
	// balancePause is how long no other flow leaves a lane for balance.
	balancePause = 50 * time.Millisecond
	// maxControl is how much of control frames may wait for a lane that does
	// not take them. Honest peers stay far below it.
	maxControl = 4 << 20
)

// Limits of what is in flight on a lane: sent, and not yet confirmed.
const (
	minFlight   = 1 << 20
	firstFlight = 4 << 20
	maxFlight   = 16 << 20
	// ackEvery is after how much of what the peer sends it is told.
	ackEvery = 256 << 10
)

// writer is what waits to be sent on a lane. The lane's connection builds each
// of its writes from it: control frames first, then urgent flows, then bulk
// ones, one frame a flow and turn. It is also the place of all that the lane
// keeps for the next connection.
type writer struct {
	told     atomic.Uint64 // how much of what was received the peer has been told
	retiring atomic.Bool   // takes no further flows
	// For those who choose a lane: bytes in flight, and flows in bulk or having
	// their turn as such.
	flight atomic.Int64
	load   atomic.Int32

	mu       sync.Mutex
	cond     sync.Cond // something to write, or ended
	waiting  bool      // the connection's writer waits on cond
	wire     *wire     // the connection; nil while there is none
	pen      *wire     // the connection that somebody else writes to instead, see claimLocked
	control  []byte    // encoded frames
	owners   []*Flow   // flows that control has frames of
	ping     bool      // to be sent
	pong     uint64    // to be sent if hasPong
	hasPong  bool
	received uint64 // to be told if tellNow
	tellNow  bool
	urgent   flowList
	bulk     flowList
	leaving  flowList  // flows that go on elsewhere once the peer has all of them
	balanced time.Time // when one last left for a lane with less load
	turns    int       // of urgent flows in a row while bulk waited
	out      outbox
	base     uint64 // offset of the write that is being built
	pace     pace
	turning  bool // a flow has its turn
	closed   bool // RETIRE has been queued: nothing may follow it
	stopped  bool
	lastWord []byte // written before the lane is closed
	abort    *time.Timer

	overloaded bool
	limit      int // how long a write gets; whoever writes
}

// schedState is a flow's place in the writer's lists, guarded by writer.mu.
type schedState struct {
	next   *Flow
	queued bool // in a list, or having its turn
	turn   bool // having its turn
	again  bool // something happened during its turn
	// mark is the lane's offset after the flow's last frame there; pending
	// while that has not been given one.
	mark uint64
}

const pending = math.MaxUint64

func (w *writer) init(b *Budget) {
	w.limit = writeFull
	w.cond.L = &w.mu
	w.pace = newPace(b)
}

// begin gives the lane a connection to a peer that has handled so many bytes;
// the peer knows that we have handled received. It returns the flows that may
// now go on elsewhere.
func (w *writer) begin(m *meter, x *wire, received, peerReceived uint64) (gone []*Flow, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return gone, ErrClosed
	}
	if !w.out.rewind(m, peerReceived) {
		return gone, malformed("peer has received %d bytes of a lane, between %d and %d", peerReceived, w.out.acked, w.out.end)
	}
	w.flight.Store(int64(w.out.inFlight()))
	w.wire, w.limit = x, writeFull
	w.ping, w.hasPong, w.tellNow = false, false, false
	w.told.Store(received)
	w.pace.restart()
	return w.letGoLocked(), nil
}

// endWire lets the connection's writer end.
func (w *writer) endWire(x *wire) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wire == x {
		w.wire = nil
		w.wakeLocked()
	}
}

// schedule gives the flow a turn; false: the lane is closed. The caller may
// hold Flow.mu. When x is not nil, the caller has to flush it, without holding
// any lock. ready is how much a caller who can do that has to send; 0: cannot.
func (w *writer) schedule(f *Flow, urgent bool, ready int) (x *wire, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &f.sched
	if s.queued {
		s.again = s.turn
		return nil, true
	}
	if w.closed {
		return nil, false
	}
	s.queued = true
	x = w.claimLocked(ready)
	w.lineUpLocked(f, urgent, w.retiring.Load())
	w.wakeLocked()
	return x, true
}

// lineUpLocked puts a flow into the list it waits in. away: it should go on on
// another lane, as soon as the peer has all that this one was given of it.
func (w *writer) lineUpLocked(f *Flow, urgent, away bool) {
	switch {
	case away && f.sched.mark > w.out.acked:
		w.leaving.push(f)
		w.ping = true // with the answer comes the peer's word
	case urgent:
		w.urgent.push(f)
	default:
		w.bulk.push(f)
		w.load.Add(1)
	}
}

// movable reports whether a flow may go on on another lane: the peer has all
// that this one was given of it.
func (w *writer) movable(f *Flow) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !f.sched.queued && f.sched.mark <= w.out.acked
}

// send queues a control frame, built by appending to the argument of frame.
// It goes out before anything of a flow scheduled later. f is the flow that
// it is about, if any; the caller holds its mu. When the peer has not read its
// answers for too long, the frame is dropped and the tunnel dies at the next
// heartbeat. false: the lane is closed. For x and ready see schedule.
func (w *writer) send(f *Flow, frame func([]byte) []byte, ready int) (x *wire, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return nil, false
	case w.stopped:
	case len(w.control) > maxControl:
		w.overloaded = true
	default:
		x = w.claimLocked(ready)
		w.control = frame(w.control)
		if f != nil && f.sched.mark != pending {
			f.sched.mark = pending
			w.owners = append(w.owners, f)
		}
		w.wakeLocked()
	}
	return x, true
}

// acked takes the peer's word for what it has, and returns the flows that may
// now go on elsewhere. ok: the peer can have that much.
func (w *writer) acked(m *meter, received uint64, now time.Time) (gone []*Flow, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.out.ack(m, received) {
		return gone, false
	}
	w.flight.Store(int64(w.out.inFlight()))
	w.pace.acked(received, now)
	w.wakeLocked()
	return w.letGoLocked(), true
}

// letGoLocked takes out the flows of which the peer has everything. They are
// in no list any more: from now on anybody may give them a turn elsewhere.
func (w *writer) letGoLocked() (gone []*Flow) {
	var stay flowList
	for f := w.leaving.pop(); f != nil; f = w.leaving.pop() {
		if f.sched.mark <= w.out.acked {
			f.sched.queued, f.sched.again = false, false
			gone = append(gone, f)
		} else {
			stay.push(f)
		}
	}
	w.leaving = stay
	return gone
}

// tell lets the peer know how much has been handled.
func (w *writer) tell(received uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if received > w.told.Load() {
		w.received, w.tellNow = received, true
		w.wakeLocked()
	}
}

func (w *writer) isOverloaded() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.overloaded
}

// sendPing asks the peer for a sign of life, and so for its word on what it
// has.
func (w *writer) sendPing() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ping = true
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
// the connection under a write that is stuck, is stopped when that is done.
func (w *writer) stop(m *meter, lastWord []byte, abort *time.Timer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.stopped, w.lastWord, w.abort = true, lastWord, abort
		w.out.free(m)
		w.wakeLocked()
	}
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

// putLocked ends a turn: the flow lines up again if there is more of it, for
// another lane if that suits it better.
func (w *writer) putLocked(f *Flow, l *lane, more, urgent bool) {
	s := &f.sched
	more = more || s.again
	s.turn, s.again, s.queued = false, false, more
	if more {
		w.lineUpLocked(f, urgent, w.retiring.Load() || !urgent && w.betterLocked(f, l))
	}
}

// betterLocked reports whether bulk should go on on another lane. For balance one
// flow at a time does, so that lanes do not swap all they have.
func (w *writer) betterLocked(f *Flow, l *lane) bool {
	if l.t.choose(l, f, false) == l {
		return false
	}
	if l.number == 0 || !l.usable() {
		return true
	}
	now := time.Now()
	if now.Sub(w.balanced) < balancePause {
		return false
	}
	w.balanced = now
	return true
}

// lessLoaded compares lanes for bulk; even decides between equal ones.
func (w *writer) lessLoaded(than *writer, even bool) bool {
	order := cmp.Or(
		cmp.Compare(w.load.Load(), than.load.Load()),
		cmp.Compare(w.flight.Load(), than.flight.Load()))
	return order < 0 || order == 0 && even
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
