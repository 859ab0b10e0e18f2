package tunnel

import (
	"encoding/binary"
	"fmt"
	"time"
)

// A lane's connection is written by its own goroutine, or, when that has
// nothing to do, by one that has something to send.

// wakeLocked wakes the connection's writer, but not while somebody else writes
// in its place: so that writer, and with it the lane's next connection, waits
// for them.
func (w *writer) wakeLocked() {
	if w.waiting && w.pen == nil {
		w.waiting = false
		w.cond.Signal()
	}
}

// claimLocked lets a goroutine that has something to send write it itself,
// by wire.flush, rather than wake the lane's writer, if that has nothing to do:
// a handful of microseconds less for a message on its own. It returns nil while
// there is more under way, when a write together with others is better, but
// for so much as makes a write by itself.
func (w *writer) claimLocked(size int) *wire {
	switch {
	case size == 0, w.pen != nil, !w.waiting, w.wire == nil, w.stopped:
	case w.out.next < w.out.end, len(w.control) > 0, w.urgent.head != nil, w.bulk.head != nil:
	case w.out.inFlight() > 0 && (size < eagerSize || !w.roomLocked(0)):
	default:
		w.pen = w.wire
		return w.pen
	}
	return nil
}

// write writes until the connection is dropped, or a write fails.
func (x *wire) write() {
	w, m := &x.l.w, &x.l.t.meter
	defer w.end(x)
	for {
		b, last := w.collect(x, m, x.batch[:0])
		if !x.send(b) || last {
			return
		}
	}
}

// flush writes what there is in place of the connection's writer, which has
// nothing to do until it returns. nil is nothing to flush.
func (x *wire) flush() {
	if x == nil {
		return
	}
	w := &x.l.w
	w.mu.Lock()
	if !w.stopped && w.wire == x {
		if b, last := w.buildLocked(x, &x.l.t.meter, x.batch[:0]); !last {
			w.mu.Unlock()
			x.send(b)
			w.mu.Lock()
		}
	}
	w.pen = nil
	if !w.idleLocked(x) {
		w.wakeLocked()
	}
	w.mu.Unlock()
}

// send writes a batch; false: the connection is over.
func (x *wire) send(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	start := time.Now()
	n, err := x.conn.Write(b)
	x.sent.Add(uint64(n))
	if err != nil {
		x.l.drop(x, fmt.Errorf("write to lane: %w", err))
		return false
	}
	x.l.w.adapt(len(b), time.Since(start))
	if cap(b) <= maxBatch {
		x.batch = b
	}
	return true
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

func (w *writer) end(x *wire) {
	w.mu.Lock()
	stopped := w.stopped
	if w.abort != nil && stopped {
		w.abort.Stop()
	}
	w.mu.Unlock()
	if stopped {
		x.l.drop(x, ErrClosed)
	}
}

// collect waits for something to write and appends it to b.
func (w *writer) collect(x *wire, m *meter, b []byte) (_ []byte, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.idleLocked(x) {
		w.waiting = true
		w.cond.Wait()
	}
	switch {
	case w.stopped:
		return append(b, w.lastWord...), true
	case w.wire != x:
		return nil, true
	}
	return w.buildLocked(x, m, b)
}

func (w *writer) idleLocked(x *wire) bool {
	switch {
	case w.stopped, w.wire != x, w.ping, w.hasPong, w.tellNow, w.out.next < w.out.end:
		return false
	case len(w.control) == 0 && w.urgent.head == nil && w.bulk.head == nil:
		return true
	default:
		return !w.roomLocked(0)
	}
}

// buildLocked appends the next write to b.
func (w *writer) buildLocked(x *wire, m *meter, b []byte) (_ []byte, last bool) {
	b = w.takeSignsLocked(b)
	if w.out.next < w.out.end {
		return w.out.again(b, w.limit), false
	}
	signs := len(b)
	w.base = w.out.end - uint64(signs)
	for w.limit-len(b) >= leastTurn && w.roomLocked(len(b)-signs) {
		b = w.takeControlLocked(b)
		f, urgent := w.popLocked()
		if f == nil {
			break
		}
		f.sched.turn, w.turning = true, true
		w.mu.Unlock()
		before := len(b)
		var more bool
		b, more = f.fill(m, b, w.limit-len(b))
		w.mu.Lock()
		w.turning = false
		if len(b) > before && f.sched.mark != pending {
			f.sched.mark = w.base + uint64(len(b))
		}
		if !urgent {
			w.load.Add(-1)
		}
		w.putLocked(f, x.l, more, urgent && len(b)-before <= smallTurn)
	}
	if w.stopped {
		return append(b[:signs], w.lastWord...), true
	}
	if len(b) > signs {
		w.out.add(m, b[signs:])
		w.flight.Store(int64(w.out.inFlight()))
		w.pace.sent(w.out.end, w.out.inFlight(), time.Now())
	}
	return b, false
}

// roomLocked reports whether more than n bytes beyond the outbox may be in flight.
func (w *writer) roomLocked(n int) bool {
	room := w.out.inFlight()+n < w.pace.allowed()
	if !room {
		w.pace.limited = true
	}
	return room
}

// takeSignsLocked takes the frames that do not last: the next connection
// would have its own.
func (w *writer) takeSignsLocked(b []byte) []byte {
	if w.ping {
		flags := uint8(0)
		if w.wire.l.busy.Load() {
			flags = flagBusy
		}
		b = binary.BigEndian.AppendUint64(appendHeader(b, typePing, flags, 8, 0), w.wire.l.nextPing())
		w.ping = false
	}
	if w.hasPong {
		b = binary.BigEndian.AppendUint64(appendHeader(b, typePong, 0, 8, 0), w.pong)
		w.hasPong = false
	}
	if received := max(w.received, w.wire.l.received.Load()); received > w.told.Load() {
		b = binary.BigEndian.AppendUint64(appendHeader(b, typeAck, 0, 8, 0), received)
		w.told.Store(received)
	}
	w.tellNow = false
	return b
}

// takeControlLocked is called before each turn, so that OPENED precedes the
// first DATA of its flow.
func (w *writer) takeControlLocked(b []byte) []byte {
	if len(w.control) == 0 {
		return b
	}
	b = append(b, w.control...)
	if w.control = w.control[:0]; cap(w.control) > maxChunk {
		w.control = nil
	}
	for _, f := range w.owners {
		f.sched.mark = w.base + uint64(len(b))
	}
	clear(w.owners)
	if w.owners = w.owners[:0]; cap(w.owners) > 1024 {
		w.owners = nil
	}
	return b
}
