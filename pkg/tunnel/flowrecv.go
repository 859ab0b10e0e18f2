package tunnel

import (
	"io"
)

// recvSide is what a flow receives, guarded by Flow.mu.
type recvSide struct {
	recv        queue
	received    uint64 // offset of the next byte to arrive
	consumed    uint64 // offset of the next byte its user reads
	recvLimit   uint64 // credit given: received never exceeds it
	window      uint64 // credit aimed at beyond consumed
	startWindow uint64 // what window began with; more is reserved in the budget
	growAfter   uint64 // a sender limited up to here did not know yet how it has grown
	finReceived bool
	readClosed  bool
	sink        *sink // gets what arrives; nil while it is being written to otherwise
}

// setWindow is the credit a flow begins with.
func (f *Flow) setWindow(window uint64) {
	f.window, f.startWindow, f.recvLimit = window, window, window
}

// Read waits for bytes, io.EOF after the peer's FIN, or the end of the flow.
func (f *Flow) Read(p []byte) (int, error) {
	if f.datagram {
		return f.readPacket(p)
	}
	if len(p) == 0 {
		return 0, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.waitReadLocked(); err != nil {
		return 0, err
	}
	n := f.recv.read(&f.t.meter, p)
	f.consumed += uint64(n)
	f.creditLocked(false)
	return n, nil
}

// waitReadLocked returns nil when there are bytes.
func (f *Flow) waitReadLocked() error {
	for {
		if ready, err := f.readyLocked(); ready {
			return err
		}
		f.canRead.Wait()
	}
}

// readyLocked reports whether a read would end at once, and how.
func (f *Flow) readyLocked() (ready bool, err error) {
	switch {
	case f.closed:
		return true, errFlowClosed
	case f.readBy.passed:
		return true, errDeadline
	case f.recv.n > 0:
		return true, nil
	case f.finReceived || f.readClosed:
		return true, io.EOF
	case f.state == stateOver:
		return true, f.err
	default:
		return false, nil
	}
}

// readableLocked lets whoever waits for that go on.
func (f *Flow) readableLocked() {
	f.canRead.Broadcast()
	if s := f.sink; s != nil && !s.busy {
		f.sink = nil
		go f.drain(s)
	}
}

// CloseRead makes Read return io.EOF; what arrives is discarded, so the peer
// is not stopped from writing.
func (f *Flow) CloseRead() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.state == stateOver:
		return f.err
	case f.closed:
		return errFlowClosed
	case !f.datagram:
		f.readClosed = true
		f.recv.free(&f.t.meter)
		f.consumed = f.received
		f.creditLocked(false)
		f.readableLocked()
	}
	return nil
}

// onData takes the bytes at offset. It never waits.
func (f *Flow) onData(offset uint64, p []byte, limited bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	end := offset + uint64(len(p))
	switch {
	case f.datagram:
		return malformed("DATA for flow %d of datagrams", f.id)
	case f.state == stateOpening:
		return malformed("DATA for flow %d, which is not open", f.id)
	case f.finReceived:
		return malformed("DATA for flow %d after its FIN", f.id)
	case offset != f.received:
		return malformed("DATA for flow %d at %d instead of %d", f.id, offset, f.received)
	case f.offering():
		return malformed("DATA for flow %d on two lanes", f.id)
	case end > f.recvLimit:
		return malformed("DATA for flow %d up to %d with credit up to %d", f.id, end, f.recvLimit)
	}
	f.received = end
	switch {
	case f.state == stateOver:
		return nil // RESET is on its way
	case f.closed:
		f.resetLocked(errFlowClosed)
		return nil
	case f.readClosed:
		f.consumed = end
	default:
		f.arriveLocked(p)
	}
	if f.state == stateOver {
		return nil
	}
	grown := limited && end > f.growAfter && f.growLocked()
	f.creditLocked(grown)
	return nil
}

// arriveLocked hands bytes to whoever waits for them, or queues them.
func (f *Flow) arriveLocked(p []byte) {
	n := f.offerLocked(p)
	switch rest := p[n:]; {
	case f.state == stateOver:
	case f.readClosed: // meanwhile, and so consumed
	case f.closed && len(rest) > 0:
		f.resetLocked(errFlowClosed)
	default:
		f.consumed += uint64(n)
		if len(rest) > 0 {
			f.recv.append(&f.t.meter, rest)
			f.readableLocked()
		}
	}
}

// growLocked multiplies the credit of a flow whose sender waits for it, unless
// it is its user who does not keep up.
func (f *Flow) growLocked() bool {
	if uint64(f.recv.n) > f.window/2 || f.window >= windowLimit {
		return false
	}
	more := min((windowGrowth-1)*f.window, windowLimit-f.window)
	if !f.t.cfg.Budget.grow(more) {
		return false
	}
	f.window += more
	f.growAfter = f.recvLimit
	f.t.watch(f)
	return true
}

// shrinkLocked gives back to the budget what was grown.
func (f *Flow) shrinkLocked() {
	if more := f.window - f.startWindow; more > 0 {
		f.window = f.startWindow
		f.t.cfg.Budget.shrink(more)
	}
}

// creditStep is how much may be read before the sender is told.
const creditStep = 1 << 20

// creditLocked sends a WINDOW when that is worth a frame.
func (f *Flow) creditLocked(now bool) {
	limit := f.consumed + f.window
	if f.state != stateOpen || f.finReceived || limit <= f.recvLimit {
		return
	}
	if !now && limit-f.recvLimit < min(f.window/4, creditStep) {
		return
	}
	f.recvLimit = limit
	f.sendWindowLocked(f.consumed, limit)
}

// onFin ends what the peer sends.
func (f *Flow) onFin(offset uint64) error {
	f.mu.Lock()
	switch {
	case f.datagram && f.gone: // the two ends have closed it at the same time
		f.mu.Unlock()
		return nil
	case f.state == stateOpening:
		defer f.mu.Unlock()
		return malformed("FIN for flow %d, which is not open", f.id)
	case f.offering():
		defer f.mu.Unlock()
		return malformed("FIN for flow %d while its DATA is on another lane", f.id)
	case f.finReceived:
		defer f.mu.Unlock()
		return malformed("second FIN for flow %d", f.id)
	case offset != f.received:
		defer f.mu.Unlock()
		return malformed("FIN for flow %d at %d instead of %d", f.id, offset, f.received)
	}
	f.finReceived = true
	if f.datagram {
		f.packets.out.free(&f.t.meter)
		f.finSent, f.finQueued = true, true
		f.canWrite.Broadcast()
	}
	f.shrinkLocked()
	f.finishLocked()
	f.readableLocked()
	over := f.gone
	f.mu.Unlock()
	if over {
		f.t.forget(f)
	}
	return nil
}
