package tunnel

import (
	"encoding/binary"
	"io"
)

// Limits of what a flow queues for the writer, in bytes.
const (
	sendQueue      = 256 << 10
	sendQueueTight = 16 << 10 // when the budget is half used
)

// sendSide is what a flow sends, guarded by Flow.mu. Offsets count the flow's
// bytes from its beginning.
type sendSide struct {
	send        queue  // from offset sent on
	sent        uint64 // handed to the writer
	sendLimit   uint64 // credit: sent never exceeds it
	starved     bool   // had to wait for credit since the last DATA
	writers     int    // in Write, waiting for room
	finQueued   bool
	finSent     bool
	resetQueued bool
}

// Write queues p, waiting while the queue is full. It returns before the
// peer, or even the lane, has taken it.
func (f *Flow) Write(p []byte) (int, error) {
	if f.datagram {
		return f.writePacket(p)
	}
	total := 0
	for {
		n, x, err := f.queueSome(p[total:])
		x.flush()
		if total += n; err != nil || total == len(p) {
			return total, err
		}
	}
}

// queueSome queues what there is room for.
func (f *Flow) queueSome(p []byte) (n int, x *wire, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	room, err := f.waitRoomLocked()
	if err != nil || len(p) == 0 {
		return 0, nil, err
	}
	n = min(room, len(p))
	f.send.append(&f.t.meter, p[:n])
	return n, f.scheduleLocked(), nil
}

// waitRoomLocked waits until the queue takes bytes, and says how many.
func (f *Flow) waitRoomLocked() (int, error) {
	for {
		if err := f.writeErrLocked(); err != nil {
			return 0, err
		}
		room := sendQueue
		if f.t.meter.budget.tight() {
			room = sendQueueTight
		}
		if room -= f.send.n; room > 0 {
			return room, nil
		}
		f.writers++
		f.canWrite.Wait()
		f.writers--
	}
}

// scheduleLocked asks for a turn if there is credit for it. The caller has to
// flush what it returns.
func (f *Flow) scheduleLocked() *wire {
	if f.sent == f.sendLimit {
		f.starved = true
		return nil
	}
	return f.queueReadyLocked(f.sent+uint64(f.send.n) <= youngFlow || f.send.n <= smallTurn, f.send.n)
}

func (f *Flow) writeErrLocked() error {
	switch {
	case f.state == stateOver:
		return f.err
	case f.closed:
		return errFlowClosed
	case f.writeBy.passed:
		return errDeadline
	case f.finQueued:
		return io.ErrClosedPipe
	default:
		return nil
	}
}

// CloseWrite sends FIN after what was written: the peer reads io.EOF and may
// go on writing.
func (f *Flow) CloseWrite() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.state == stateOver:
		return f.err
	case f.closed:
		return errFlowClosed
	case !f.datagram:
		f.finLocked()
		f.canWrite.Broadcast()
	}
	return nil
}

func (f *Flow) finLocked() {
	if !f.finQueued {
		f.finQueued = true
		f.queueLocked(f.send.n <= smallTurn)
	}
}

// fill is the flow's turn: it appends at most one DATA, which with its header
// fits in room, or what ends the flow, to b. more: it has something for
// another turn.
func (f *Flow) fill(m *meter, b []byte, room int) (_ []byte, more bool) {
	f.mu.Lock()
	b, more = f.fillLocked(m, b, room)
	over := f.gone
	f.mu.Unlock()
	if over {
		f.t.forget(f)
	}
	return b, more
}

func (f *Flow) fillLocked(m *meter, b []byte, room int) (_ []byte, more bool) {
	if f.gone {
		return b, false
	}
	if f.datagram && !f.resetQueued {
		return f.fillPacketLocked(m, b)
	}
	if n := min(uint64(f.send.n), f.sendLimit-f.sent, maxChunk, uint64(room-dataHeader)); n > 0 {
		flags := uint8(0)
		if f.starved || f.sendLimit-f.sent <= uint64(f.send.n) {
			flags, f.starved = flagLimited, false
		}
		b = appendHeader(b, typeData, flags, 8+int(n), f.id)
		b = binary.BigEndian.AppendUint64(b, f.sent)
		b = f.send.moveTo(m, b, int(n))
		f.sent += n
		if f.writers > 0 && f.send.n <= sendQueue/2 {
			f.canWrite.Broadcast()
		}
	}
	switch {
	case f.send.n > 0 && f.sent == f.sendLimit:
		f.starved = true
		return b, false
	case f.send.n > 0:
		return b, true
	case f.resetQueued:
		f.gone = true
		return appendReset(b, f.id), false
	case f.finQueued && !f.finSent:
		f.finSent = true
		b = appendFin(b, f.id, f.sent)
		f.finishLocked()
	}
	return b, false
}

// finishLocked ends a flow both of whose halves have.
func (f *Flow) finishLocked() {
	if f.finSent && f.finReceived {
		f.gone = true
		f.endedLocked(io.EOF)
	}
}

// onWindow gives credit.
func (f *Flow) onWindow(consumed, limit uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.datagram:
		return malformed("WINDOW for flow %d of datagrams", f.id)
	case f.state == stateOpening:
		return malformed("WINDOW for flow %d, which is not open", f.id)
	case consumed > f.sent:
		return malformed("WINDOW for flow %d: %d bytes consumed of %d sent", f.id, consumed, f.sent)
	}
	if limit <= f.sendLimit {
		return nil
	}
	f.sendLimit = limit
	if f.send.n > 0 {
		f.queueLocked(false)
	}
	return nil
}
