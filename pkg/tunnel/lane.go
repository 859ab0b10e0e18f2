package tunnel

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// lane is an ordered stream of frames each way that outlives the connections
// it runs over, one at a time:
//
//	down --attach--> up --break, silence--> down
//	                 up --a younger connection--> up
//	                 up --RETIRE both ways, GOAWAY 6--> over
//
// Every frame that lasts (see frameType.lasts) is handled exactly once and in
// order: both ends count their bytes, tell each other how far they have come,
// and a new connection begins there.
type lane struct {
	t              *Tunnel
	number         uint32
	w              writer
	received       atomic.Uint64 // bytes of lasting frames handled
	up             atomic.Bool
	suspect        atomic.Bool // up, but silent for longer than it should be
	resumes        atomic.Int64
	busy, peerBusy atomic.Bool // more to send than goes on it
	peerRetired    atomic.Bool // the peer has said its last
	over           atomic.Bool // both have, and the lane is forgotten

	last *wire // the latest connection; guarded by joining

	joining sync.Mutex // held from the release of one connection to the next's attach

	mu   sync.Mutex // before writer.mu
	wire *wire      // nil while down

	// The reader's, of which there is one at a time.
	lastOpen uint32  // the peer's highest number on this lane
	partial  partial // of a datagram
	lastPong uint64

	lastPing atomic.Uint64 // set by the writer
	rtt      atomic.Int64  // nanoseconds, smoothed
	moved    atomic.Uint64 // bytes both ways on connections that are over
}

func newLane(t *Tunnel, number uint32) *lane {
	l := &lane{t: t, number: number}
	l.w.init(t.cfg.Budget)
	return l
}

// wire is one connection that carries a lane. Its reader and its writer end
// when it is dropped.
type wire struct {
	l     *lane
	conn  net.Conn
	fr    *frameReader
	since time.Time
	gone  chan struct{} // closed when it no longer carries the lane
	wg    sync.WaitGroup
	sent  atomic.Uint64
	batch []byte // what is written next; whoever writes

	// The heartbeat's.
	seen  uint64 // bytes received at its last look
	quiet int    // looks without one more
}

// attach lets a connection on which the handshake is done carry the lane. The
// peer says how many bytes of lasting frames it has handled. The one before
// has been released.
func (l *lane) attach(conn net.Conn, fr *frameReader, peerReceived uint64) error {
	x := &wire{l: l, conn: conn, fr: fr, since: time.Now(), gone: make(chan struct{})}
	leaving, err := l.take(x, peerReceived)
	if err != nil {
		_ = conn.Close()
		return err
	}
	arrive(leaving)
	return nil
}

func (l *lane) take(x *wire, peerReceived uint64) (leaving []*Flow, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if leaving, err = l.w.begin(&l.t.meter, x, l.received.Load(), peerReceived); err != nil {
		return leaving, err
	}
	x.fr.grow()
	l.wire, l.last = x, x
	l.suspect.Store(false)
	l.up.Store(true)
	l.t.wg.Add(2)
	x.wg.Go(func() {
		defer l.t.wg.Done()
		x.read()
	})
	x.wg.Go(func() {
		defer l.t.wg.Done()
		x.write()
	})
	return leaving, nil
}

// drop ends a connection. The lane is down, unless it has another already.
func (l *lane) drop(x *wire, why error) {
	l.mu.Lock()
	current := l.wire == x
	if current {
		l.wire = nil
		l.up.Store(false)
		l.moved.Add(x.fr.received.Load() + x.sent.Load())
		close(x.gone)
	}
	l.mu.Unlock()
	l.w.endWire(x)
	_ = x.conn.Close()
	if current {
		l.t.cfg.Log.Debug("lane down", "lane", l.number, "err", why)
	}
}

// release ends the connection there is, waits until nobody uses it any more,
// and says how much has been handled. The caller holds joining.
func (l *lane) release() uint64 {
	if x := l.current(); x != nil {
		l.drop(x, errReplaced)
	}
	if l.last != nil {
		l.last.wg.Wait()
	}
	return l.received.Load()
}

// current is the connection that carries the lane; nil while it is down.
func (l *lane) current() *wire {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wire
}

// stop ends the lane with the tunnel; abort closes what takes no last word.
func (l *lane) stop(lastWord []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var abort *time.Timer
	if x := l.wire; x != nil {
		abort = time.AfterFunc(closeTimeout, func() { _ = x.conn.Close() })
	}
	l.w.stop(&l.t.meter, lastWord, abort)
}

// usable reports whether flows should choose the lane.
func (l *lane) usable() bool { return l.up.Load() && !l.suspect.Load() && !l.w.retiring.Load() }

// bytes is what the lane has carried, both ways.
func (l *lane) bytes() uint64 {
	n := l.moved.Load()
	if x := l.current(); x != nil {
		n += x.fr.received.Load() + x.sent.Load()
	}
	return n
}

// read handles frames until the connection ends. It never waits for a flow.
func (x *wire) read() {
	for {
		h, b, size, err := x.fr.nextRun()
		if err == nil && h.typ.lasts() && x.l.peerRetired.Load() {
			err = malformed("%s after RETIRE", h)
		}
		if err == nil {
			err = x.l.t.handle(x.l, h, b)
		}
		switch {
		case err == nil:
			if h.typ.lasts() {
				x.l.took(size)
			}
		case errors.Is(err, errRetired):
			if err = x.l.onRetired(); err == nil {
				x.l.drop(x, errRetired)
				return
			}
			fallthrough
		case isProtocolError(err):
			x.l.t.fail(fmt.Errorf("%w: %w", ErrClosed, err))
			return
		case isGoaway(err):
			x.l.t.fail(err)
			return
		default:
			x.l.drop(x, laneErr(err))
			return
		}
	}
}

// took counts a lasting frame that has been handled.
func (l *lane) took(n int) {
	received := l.received.Add(uint64(n))
	if received-l.w.told.Load() >= ackEvery {
		l.w.tell(received)
	}
}

func (l *lane) onAck(received uint64) error {
	leaving, ok := l.w.acked(&l.t.meter, received, time.Now())
	if !ok {
		return malformed("ACK of %d bytes on lane %d", received, l.number)
	}
	arrive(leaving)
	return nil
}

// nextPing is the value of a PING that is sent now.
func (l *lane) nextPing() uint64 {
	value := max(uint64(time.Since(l.t.started)), l.lastPing.Load()+1)
	l.lastPing.Store(value)
	return value
}

func (l *lane) onPong(value uint64) error {
	if value <= l.lastPong || value > l.lastPing.Load() {
		return malformed("PONG without its PING")
	}
	l.lastPong = value
	sample := int64(max(time.Since(l.t.started)-time.Duration(value), 1))
	if old := l.rtt.Load(); old != 0 {
		sample = old + (sample-old)/4
	}
	l.rtt.Store(sample)
	return nil
}
