package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Tunnel is one end of an authenticated connection that carries flows. It
// dies by Close, by the peer's leave, by a broken lane or protocol, or by
// silence; then every flow of it is reset.
type Tunnel struct {
	cfg     Config
	client  bool
	session string
	lane    net.Conn
	fr      *frameReader
	w       writer
	meter   meter
	backlog chan *Request
	done    chan struct{}
	wg      sync.WaitGroup
	started time.Time

	rtt      atomic.Int64  // nanoseconds, smoothed
	lastPing atomic.Uint64 // value of the last PING sent
	lastPong uint64        // value of the last PONG; the reader's
	partial  partial       // the reader's

	opening sync.Mutex // held from choosing a flow's number until its OPEN is queued

	mu       sync.Mutex
	flows    map[uint32]*Flow // all that are not over
	watched  map[*Flow]struct{}
	lastID   uint32 // of our flows
	peerID   uint32 // the highest of the peer's flows
	peerOpen int    // the peer's flows in flows
	opened   uint64
	err      error // why the tunnel is dead
}

// Stats is a snapshot of a tunnel.
type Stats struct {
	Flows    int           // open now
	Opened   uint64        // ever
	Received uint64        // bytes read from the lane
	Sent     uint64        // bytes written to it
	Held     int64         // bytes in buffers of flows
	RTT      time.Duration // see Tunnel.RTT
}

// start takes over a lane on which the handshake is done.
func start(lane net.Conn, fr *frameReader, cfg Config, client bool, session string) *Tunnel {
	t := &Tunnel{
		cfg:     cfg,
		client:  client,
		session: session,
		lane:    lane,
		fr:      fr,
		meter:   meter{budget: cfg.Budget},
		backlog: make(chan *Request, cfg.Backlog),
		done:    make(chan struct{}),
		started: time.Now(),
		flows:   make(map[uint32]*Flow),
		watched: make(map[*Flow]struct{}),
	}
	t.w.init(lane)
	fr.grow()
	cfg.Budget.tunnels.Add(1)
	t.wg.Go(t.read)
	t.wg.Go(func() {
		t.w.run(&t.meter, func(err error) { t.fail(fmt.Errorf("%w: write to lane: %w", ErrClosed, err)) })
		_ = lane.Close()
	})
	t.wg.Go(t.heartbeat)
	return t
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

// RTT is the smoothed round trip time of PING; 0 before the first answer.
func (t *Tunnel) RTT() time.Duration { return time.Duration(t.rtt.Load()) }

// Stats is a snapshot.
func (t *Tunnel) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Stats{
		Flows:    len(t.flows),
		Opened:   t.opened,
		Received: t.fr.received.Load(),
		Sent:     t.w.sent.Load(),
		Held:     t.meter.held.Load(),
		RTT:      t.RTT(),
	}
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
	if _, left := errors.AsType[*goawayError](err); !left {
		lastWord = appendGoaway(codeOf(err), err.Error())
	}
	abort := time.AfterFunc(closeTimeout, func() { _ = t.lane.Close() })
	t.w.stop(lastWord, abort)
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
	if err := t.announce(f); err != nil {
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
func (t *Tunnel) announce(f *Flow) error {
	t.opening.Lock()
	defer t.opening.Unlock()
	t.mu.Lock()
	if t.err != nil {
		defer t.mu.Unlock()
		return t.err
	}
	switch {
	case t.lastID == 0 && t.client:
		t.lastID = 1
	case t.lastID >= maxFlowID-2:
		t.mu.Unlock()
		return errors.New("tunnel has no flow numbers left")
	default:
		t.lastID += 2
	}
	f.id = t.lastID
	f.setWindow(t.cfg.Budget.window(len(t.flows)))
	t.flows[f.id] = f
	t.opened++
	t.mu.Unlock()
	t.w.send(func(b []byte) []byte { return appendOpen(b, f.id, uint32(f.window), f.target) })
	return nil
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

// watch lets tick look after a flow until it is forgotten or says no.
func (t *Tunnel) watch(f *Flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flows[f.id] == f {
		t.watched[f] = struct{}{}
	}
}

// peers says whether a flow number is one the peer gives: the laptop's are
// odd, the agent's even.
func (t *Tunnel) peers(id uint32) bool { return (id%2 == 1) != t.client }

// heartbeat sends PING and ends the tunnel after PingTimeout of silence. It
// counts ticks in which nothing arrived rather than reading the clock: when
// this process was stopped or asleep, the time away counts as one.
func (t *Tunnel) heartbeat() {
	const ticksPerPing = 4
	every := t.cfg.PingInterval / ticksPerPing
	limit := int((t.cfg.PingTimeout + every - 1) / every)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var (
		seen  uint64
		quiet int
	)
	for n := 0; ; n++ {
		if n%ticksPerPing == 0 {
			value := uint64(max(time.Since(t.started), 1))
			t.lastPing.Store(value)
			t.w.sendPing(value)
			t.tick()
		}
		select {
		case <-t.done:
			return
		case <-ticker.C:
		}
		if t.w.isOverloaded() {
			t.fail(fmt.Errorf("%w: %w", ErrClosed, errOverloaded))
			return
		}
		if now := t.fr.received.Load(); now != seen {
			seen, quiet = now, 0
		} else if quiet++; quiet >= limit {
			t.fail(fmt.Errorf("%w: %w for %v", ErrClosed, errDead, t.cfg.PingTimeout))
			return
		}
	}
}

// tick looks after the watched flows, once every PingInterval.
func (t *Tunnel) tick() {
	t.mu.Lock()
	if len(t.watched) == 0 {
		t.mu.Unlock()
		return
	}
	flows := make([]*Flow, 0, len(t.watched))
	for f := range t.watched {
		flows = append(flows, f)
	}
	t.mu.Unlock()
	now := time.Now()
	for _, f := range flows {
		if !f.tend(now) {
			t.mu.Lock()
			delete(t.watched, f)
			t.mu.Unlock()
		}
	}
}

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
