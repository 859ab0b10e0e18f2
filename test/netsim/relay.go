package netsim

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// acceptAgain is the pause after a failed Accept, of too many open files say.
const acceptAgain = 10 * time.Millisecond

// DialFunc dials the API server. It must return soon after ctx has ended.
type DialFunc func(ctx context.Context) (net.Conn, error)

// Relay carries every connection that its listener accepts to one that it
// dials. All methods are safe for concurrent use.
//
// A FIN is passed on in its place and its time, while the other direction
// lives on, if the connections have CloseWrite (as TCP's); so is a RST, which
// is also what becomes of a connection that cannot be dialed.
type Relay struct {
	listener net.Listener
	dial     DialFunc
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	close    func() error
	tasks    sync.WaitGroup
	state    atomic.Pointer[state]
	up, down direction

	mu    sync.Mutex // before that of a pair; also held to change state
	pairs map[*pair]struct{}
	ever  int
}

// direction is what all flows of one direction share.
type direction struct {
	lane    lane
	in, out atomic.Int64
}

func (d *direction) bytes() Bytes { return Bytes{In: d.in.Load(), Out: d.out.Load()} }

// state is how the network is at the moment. A state is not changed, but
// replaced; then changed is closed.
type state struct {
	link    Link
	frozen  bool
	refuse  bool
	clear   time.Time // nothing arrives before; set by Thaw
	changed chan struct{}
}

// New starts a relay over a link. It owns the listener from now on. Close it.
func New(listener net.Listener, dial DialFunc, link Link) *Relay {
	r := &Relay{listener: listener, dial: dial, pairs: map[*pair]struct{}{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.close = sync.OnceValue(r.end)
	r.state.Store(&state{link: link, changed: make(chan struct{})})
	r.tasks.Go(r.accept)
	return r
}

// Addr is where the relay listens.
func (r *Relay) Addr() net.Addr { return r.listener.Addr() }

// Close stops listening, resets all connections and returns when every
// goroutine has ended. The error is the listener's.
func (r *Relay) Close() error { return r.close() }

func (r *Relay) end() error {
	r.cancel()
	err := r.listener.Close()
	r.Cut()
	r.tasks.Wait()
	return err
}

// Stats counts what a relay has carried.
type Stats struct {
	// Now is how many connections the laptop has open, half-open ones included;
	// Ever is how many were accepted since New, refused ones not included.
	Now, Ever int
	// Up is from the laptop to the API server, Down the other way.
	Up, Down Bytes
}

// Bytes counts one direction: what came In from the sender, and went Out to
// the receiver. The rest is under way, or was lost with its connection.
type Bytes struct{ In, Out int64 }

// Stats counts until now.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Stats{Ever: r.ever, Up: r.up.bytes(), Down: r.down.bytes()}
	for p := range r.pairs {
		if !p.left.Load() {
			s.Now++
		}
	}
	return s
}

func (r *Relay) accept() {
	for {
		near, err := r.listener.Accept()
		if err == nil {
			r.add(near)
			continue
		}
		if errors.Is(err, net.ErrClosed) || r.ctx.Err() != nil {
			return
		}
		select {
		case <-time.After(acceptAgain):
		case <-r.ctx.Done():
			return
		}
	}
}

// add starts a pair for a connection, or refuses it.
func (r *Relay) add(near net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if st := r.state.Load(); r.ctx.Err() != nil || st.refuse && !st.frozen {
		_ = splice.Reset(near)
		return
	}
	p := newPair(r, near)
	r.ever++
	r.pairs[p] = struct{}{}
	r.tasks.Go(func() {
		p.serve()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.pairs, p)
	})
}
