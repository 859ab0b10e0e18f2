package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Tunnel is one end of an authenticated connection that carries flows, over
// one or more lanes. It dies by Close, by the peer's leave, by a broken
// protocol, or when no lane has worked for Config.ResumeTimeout; then every
// flow of it is reset.
type Tunnel struct {
	cfg     Config
	client  bool
	id      tunnelID
	session string
	dial    func(context.Context) (net.Conn, error) // the laptop's
	meter   meter
	backlog chan *Request
	ctx     context.Context // ends with the tunnel
	cancel  context.CancelFunc
	done    chan struct{}
	wg      sync.WaitGroup
	started time.Time
	lanes   atomic.Pointer[[]*lane] // by number; never empty
	adapt   adaption                // the heartbeat's
	onEnd   func()

	opening sync.Mutex // held from choosing a flow's number until its OPEN is queued

	mu        sync.Mutex
	flows     map[uint32]*Flow // all that are not over
	watched   map[*Flow]struct{}
	lastID    uint32 // of our flows
	opens     openSet
	peerOpen  int // the peer's flows in flows
	opened    uint64
	lostSince time.Time // see Lost
	err       error     // why the tunnel is dead

	lastLane     uint32              // the highest number of a lane
	retiredLanes map[uint32]struct{} // numbers that do not come again
}

// Stats is a snapshot of a tunnel.
type Stats struct {
	Flows   int           // open now
	Opened  uint64        // ever
	Lanes   int           // with a connection now
	Resumes int           // connections that took over a lane
	Bytes   uint64        // read from and written to all lanes
	Held    int64         // bytes in buffers
	RTT     time.Duration // see Tunnel.RTT
}

// newTunnel makes a tunnel with lane 0, which is down.
func newTunnel(cfg Config, client bool, id tunnelID, session string) *Tunnel {
	t := &Tunnel{
		cfg:     cfg,
		client:  client,
		id:      id,
		session: session,
		meter:   meter{budget: cfg.Budget},
		backlog: make(chan *Request, cfg.Backlog),
		done:    make(chan struct{}),
		started: time.Now(),
		flows:   make(map[uint32]*Flow),
		watched: make(map[*Flow]struct{}),
		onEnd:   func() {},

		retiredLanes: make(map[uint32]struct{}),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.lanes.Store(&[]*lane{newLane(t, 0)})
	return t
}

// start lets a connection on which the handshake is done carry lane 0.
func (t *Tunnel) start(conn net.Conn, fr *frameReader) error {
	t.cfg.Budget.tunnels.Add(1)
	if err := t.allLanes()[0].attach(conn, fr, 0); err != nil {
		return err
	}
	t.wg.Go(t.heartbeat)
	return nil
}

// allLanes are the lanes there are, by number.
func (t *Tunnel) allLanes() []*lane { return *t.lanes.Load() }

// addLane makes a lane, which is down; nil when the tunnel is dead.
func (t *Tunnel) addLane(number uint32) *lane {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.addLaneLocked(number)
}

func (t *Tunnel) addLaneLocked(number uint32) *lane {
	if t.err != nil {
		return nil
	}
	l := newLane(t, number)
	lanes := append(slices.Clone(t.allLanes()), l)
	t.lastLane = max(t.lastLane, number)
	t.lanes.Store(&lanes)
	return l
}

// Done is closed when the tunnel has died and its flows are reset.
func (t *Tunnel) Done() <-chan struct{} { return t.done }

// Err says why the tunnel died; nil while it lives.
func (t *Tunnel) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// PeerSession is the session ID of the laptop; empty on the laptop's end.
func (t *Tunnel) PeerSession() string { return t.session }

// RTT is the smoothed round trip time of PING on the fastest lane; 0 before
// the first answer.
func (t *Tunnel) RTT() (rtt time.Duration) {
	for _, l := range t.allLanes() {
		if d := time.Duration(l.rtt.Load()); d != 0 && l.up.Load() && (rtt == 0 || d < rtt) {
			rtt = d
		}
	}
	return rtt
}

// Stats is a snapshot.
func (t *Tunnel) Stats() Stats {
	s := Stats{RTT: t.RTT(), Held: t.meter.held.Load()}
	for _, l := range t.allLanes() {
		if l.up.Load() {
			s.Lanes++
		}
		s.Resumes += int(l.resumes.Load())
		s.Bytes += l.bytes()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Flows, s.Opened = len(t.flows), t.opened
	return s
}

func (t *Tunnel) flowCount() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.flows)
}

// Close tells the peer, resets all flows and waits, at most a little longer
// than a second, until nothing of the tunnel runs any more.
func (t *Tunnel) Close() error {
	t.fail(ErrClosed)
	t.wg.Wait()
	return nil
}

// fail ends the tunnel; the first reason stays. It returns when all flows are
// reset, before the goroutines have ended.
func (t *Tunnel) fail(err error) {
	t.mu.Lock()
	if t.err != nil {
		t.mu.Unlock()
		return
	}
	t.err = err
	flows := t.flows
	t.flows = nil
	t.mu.Unlock()

	t.cfg.Log.Debug("tunnel died", "err", err, "flows", len(flows))
	for _, f := range flows {
		f.die(err)
	}
	t.cfg.Budget.tunnels.Add(-1)
	var lastWord []byte
	if !isGoaway(err) {
		lastWord = appendGoaway(codeOf(err), err.Error())
	}
	for _, l := range t.allLanes() {
		l.stop(lastWord)
	}
	t.cancel()
	t.onEnd()
	close(t.done)
}

// Open asks the peer for a flow to target and returns when it has accepted;
// a *RefusedError when it has not. When ctx ends first the peer is told.
func (t *Tunnel) Open(ctx context.Context, target Target) (*Flow, error) {
	if err := target.check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open %s: %w", target, context.Cause(ctx))
	}
	f := newFlow(t, target)
	f.answered = make(chan struct{})
	x, err := t.announce(f)
	x.flush()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", target, err)
	}
	select {
	case <-f.answered:
		if err := f.openErr(); err != nil {
			return nil, err
		}
		return f, nil
	case <-ctx.Done():
		_ = f.Reset()
		return nil, fmt.Errorf("open %s: %w", target, context.Cause(ctx))
	}
}

// announce numbers a flow of ours and queues its OPEN; numbers reach the peer
// in order.
func (t *Tunnel) announce(f *Flow) (*wire, error) {
	t.opening.Lock()
	defer t.opening.Unlock()
	t.mu.Lock()
	if t.err != nil {
		defer t.mu.Unlock()
		return nil, t.err
	}
	switch {
	case t.lastID == 0 && t.client:
		t.lastID = 1
	case t.lastID >= maxFlowID-2:
		t.mu.Unlock()
		return nil, errors.New("tunnel has no flow numbers left")
	default:
		t.lastID += 2
	}
	f.id = t.lastID
	f.setWindow(t.cfg.Budget.window(len(t.flows)))
	t.flows[f.id] = f
	t.opened++
	t.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sendLocked(func(b []byte) []byte { return appendOpen(b, f.id, uint32(f.window), f.target) }), nil
}

// AcceptFlow waits for the peer to open a flow. It never returns an open that
// was given up before the call.
func (t *Tunnel) AcceptFlow(ctx context.Context) (*Request, error) {
	for {
		select {
		case r := <-t.backlog:
			if r.f.isOpening() {
				return r, nil
			}
		case <-t.done:
			return nil, t.Err()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// forget drops a flow that is over. The caller does not hold Flow.mu.
func (t *Tunnel) forget(f *Flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flows[f.id] != f {
		return
	}
	delete(t.flows, f.id)
	delete(t.watched, f)
	if t.peers(f.id) {
		t.peerOpen--
	}
}

// watch lets tick look after a flow until it is forgotten or unwatched.
func (t *Tunnel) watch(f *Flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flows[f.id] == f {
		t.watched[f] = struct{}{}
	}
}

func (t *Tunnel) unwatch(f *Flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.watched, f)
}

// peers reports whether a flow number is one the peer gives: the laptop's are
// odd, the agent's even.
func (t *Tunnel) peers(id uint32) bool { return (id%2 == 1) != t.client }

// shed resets the flow that holds most when the budget is exceeded.
func (t *Tunnel) shed() {
	t.mu.Lock()
	flows := make([]*Flow, 0, len(t.flows))
	for _, f := range t.flows {
		flows = append(flows, f)
	}
	t.mu.Unlock()
	var (
		worst *Flow
		most  int
	)
	for _, f := range flows {
		if n := f.holds(); n > most {
			worst, most = f, n
		}
	}
	if worst != nil {
		t.cfg.Log.Warn("flow reset: buffers exceed the budget", "target", worst.target.String(), "held", most)
		worst.abort(errBudget)
	}
}

var errBudget = errors.New("flow reset: buffers exceed the budget")

// laneErr is what a failed read from the lane means.
func laneErr(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: lane closed by peer", ErrClosed)
	}
	return fmt.Errorf("%w: read from lane: %w", ErrClosed, err)
}
