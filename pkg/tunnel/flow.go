package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// flowState is where a flow is in its life:
//
//	opening --Accept/OPENED--> open --FIN both ways / RESET / death--> over
//	   \------REFUSED / RESET / death--------------------------------> over
type flowState uint8

const (
	stateOpening flowState = iota // OPEN is sent or received, and not answered
	stateOpen
	stateOver // for its user; what is queued may still go out
)

// lingerTime is how long a closed flow may go without moving a byte before it
// is reset: its peer has stopped reading, or never closes its own half.
const lingerTime = time.Minute

// Flow is one TCP connection, UDP association or service stream. It is a
// net.Conn, safe for concurrent use.
//
// A flow to Network "udp" keeps datagram boundaries: a Write is one datagram
// of at most 65,507 bytes, a Read returns one, cutting off what does not fit.
// Either side's queue holds a few and drops what is too much. Its CloseWrite
// and CloseRead do nothing; when one end closes it, the other reads io.EOF.
type Flow struct {
	t        *Tunnel
	id       uint32
	target   Target
	datagram bool
	lane     *lane         // that its next frame goes on; guarded by mu once it is shared
	answered chan struct{} // closed when our OPEN is answered; nil on the peer's flows

	mu       sync.Mutex
	canRead  sync.Cond
	canWrite sync.Cond
	state    flowState
	err      error // set when over: what its user gets
	gone     bool  // over on the wire too: nothing more is sent or taken
	closed   bool  // by Close
	accepted bool  // ours: the peer has accepted it
	ctx      context.Context
	cancel   context.CancelCauseFunc
	onOver   func(error)

	sendSide
	recvSide
	packets packetSide

	readBy, writeBy deadline
	lingerUntil     time.Time
	lingerMark      uint64

	sched schedState // guarded by its lane's writer.mu
}

func newFlow(t *Tunnel, target Target) *Flow {
	f := &Flow{t: t, target: target, datagram: target.datagram(), lane: t.allLanes()[0]}
	f.canRead.L, f.canWrite.L = &f.mu, &f.mu
	return f
}

// errFlowClosed is what its own user gets from a flow after Close or Reset.
var errFlowClosed = fmt.Errorf("flow: %w", net.ErrClosed)

// Target is what the flow was opened to.
func (f *Flow) Target() Target { return f.target }

// LocalAddr and RemoteAddr say what the flow was opened to; the tunnel knows
// no address of the other side.
func (f *Flow) LocalAddr() net.Addr { return addr{f.target} }

// RemoteAddr is LocalAddr.
func (f *Flow) RemoteAddr() net.Addr { return addr{f.target} }

type addr struct{ target Target }

func (a addr) Network() string { return a.target.Network }
func (a addr) String() string  { return a.target.Address }

// Close ends the flow as close does a socket: what was written still goes
// out, followed by FIN; but when received bytes are unread, or more arrive,
// the peer gets a RESET.
func (f *Flow) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	f.readBy.stop()
	f.writeBy.stop()
	if f.state != stateOpen {
		f.recv.free(&f.t.meter)
		f.packets.in.free(&f.t.meter)
		return nil
	}
	if f.recv.n > 0 {
		f.resetLocked(errFlowClosed)
		return nil
	}
	f.packets.in.free(&f.t.meter)
	f.finLocked()
	if !f.gone {
		f.lingerUntil = time.Time{}
		f.t.watch(f)
	}
	f.readableLocked()
	f.canWrite.Broadcast()
	return nil
}

// Reset ends the flow as an RST does a TCP connection. What was written and
// has credit still precedes the RESET.
func (f *Flow) Reset() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.state == stateOver {
		f.recv.free(&f.t.meter)
		return nil
	}
	f.resetLocked(errFlowClosed)
	return nil
}

// abort resets the flow for a reason its user gets to read.
func (f *Flow) abort(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != stateOver {
		f.send.free(&f.t.meter)
		f.resetLocked(err)
	} else {
		f.recv.free(&f.t.meter)
	}
}

// resetLocked makes the flow over for its user and queues a RESET.
func (f *Flow) resetLocked(err error) {
	f.overLocked(err)
	f.recv.free(&f.t.meter)
	f.packets.free(&f.t.meter)
	if f.gone {
		f.send.free(&f.t.meter)
		return
	}
	f.send.truncate(&f.t.meter, int(f.sendLimit-f.sent))
	f.resetQueued = true
	f.queueLocked(true)
}

// OnOver has f called, on a goroutine of its own, when the flow is reset by
// either side or ends with its tunnel: even if nobody reads or writes it then.
// err is what its user gets; with ErrReset, what arrived before can still be
// read. It may be called once.
func (f *Flow) OnOver(over func(err error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onOver = over
	if f.state == stateOver {
		go over(f.err)
	}
}

// overLocked wakes everybody who waits for the flow.
func (f *Flow) overLocked(err error) {
	if f.state == stateOver {
		return
	}
	f.state, f.err = stateOver, err
	if f.onOver != nil {
		go f.onOver(err)
	}
	f.readBy.stop()
	f.writeBy.stop()
	f.endedLocked(err)
	if f.answered != nil {
		select {
		case <-f.answered:
		default:
			close(f.answered)
		}
	}
	f.readableLocked()
	f.canWrite.Broadcast()
}

// endedLocked ends the request's context and gives grown credit back.
func (f *Flow) endedLocked(err error) {
	if f.cancel != nil {
		f.cancel(err)
	}
	f.shrinkLocked()
}

// die is the end of the tunnel.
func (f *Flow) die(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = true
	f.overLocked(err)
	f.send.free(&f.t.meter)
	f.recv.free(&f.t.meter)
	f.packets.free(&f.t.meter)
}

// onReset: what has arrived before stays readable.
func (f *Flow) onReset() error {
	f.mu.Lock()
	f.gone = true
	f.overLocked(ErrReset)
	f.send.free(&f.t.meter)
	if f.closed {
		f.recv.free(&f.t.meter)
	}
	f.mu.Unlock()
	f.t.forget(f)
	return nil
}

func (f *Flow) onOpened(window uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.answered == nil:
		return malformed("OPENED for flow %d, which its sender opened", f.id)
	case f.state == stateOver:
		return nil // given up; RESET is on its way
	case f.state == stateOpen:
		return malformed("second OPENED for flow %d", f.id)
	}
	f.state, f.accepted, f.sendLimit = stateOpen, true, window
	close(f.answered)
	return nil
}

func (f *Flow) onRefused(reason Reason, message string) error {
	f.mu.Lock()
	if f.answered == nil || f.state == stateOpen {
		defer f.mu.Unlock()
		return malformed("REFUSED for flow %d, which is open", f.id)
	}
	f.gone = true
	f.overLocked(&RefusedError{Target: f.target, Reason: reason, Message: message})
	f.mu.Unlock()
	f.t.forget(f)
	return nil
}

// openErr is what Open returns once it was answered.
func (f *Flow) openErr() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var refused *RefusedError
	switch {
	case f.accepted:
		return nil // what came after OPENED is for Read to tell
	case errors.As(f.err, &refused):
		return refused
	default:
		return fmt.Errorf("open %s: %w", f.target, f.err)
	}
}

// answerErr is why a request cannot be answered any more.
func (f *Flow) answerErr() error {
	if f.err != nil {
		return f.err
	}
	return errors.New("already answered")
}

func (f *Flow) isOpening() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state == stateOpening
}

// holds is the memory in the flow's buffers.
func (f *Flow) holds() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.send.held + f.recv.held + f.packets.in.bytes + f.packets.out.bytes
}

// tend is called now and then for a watched flow, until it is no longer needed.
func (f *Flow) tend(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.gone {
		if mark := f.sent + f.received; f.lingerUntil.IsZero() || mark != f.lingerMark {
			f.lingerMark = mark
			f.lingerUntil = now.Add(lingerTime)
			return
		}
		switch {
		case now.Before(f.lingerUntil):
			return
		case f.closed:
			f.send.free(&f.t.meter)
			f.resetLocked(errFlowClosed)
		default:
			f.shrinkLocked()
		}
	}
	f.t.unwatch(f) // with the lock, as Close may watch it again
}
