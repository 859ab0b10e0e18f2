package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// choppyConn reads and writes in random pieces.
type choppyConn struct {
	net.Conn
	mu  sync.Mutex
	rng *rand.Rand
}

func (c *choppyConn) piece(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n <= 1 || c.rng.IntN(4) > 0 {
		return n
	}
	return 1 + c.rng.IntN(n)
}

func (c *choppyConn) Read(p []byte) (int, error) { return c.Conn.Read(p[:c.piece(len(p))]) }

func (c *choppyConn) Write(p []byte) (total int, err error) {
	for len(p) > 0 && err == nil {
		var n int
		n, err = c.Conn.Write(p[:c.piece(len(p))])
		total += n
		p = p[n:]
	}
	return total, err
}

// half is the life of one direction of a flow.
type half struct {
	seed  uint64
	size  int
	reset bool // instead of FIN
	stop  int  // the reader gives up after so many bytes; -1: never
}

// contents is what the half with this seed sends.
func contents(seed uint64, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}

func (h half) write(f *Flow, rng *rand.Rand) {
	b := contents(h.seed, h.size)
	if rng.IntN(3) == 0 {
		if _, err := f.ReadFrom(&pieceReader{b, rng}); err != nil {
			return
		}
		b = nil
	}
	for len(b) > 0 {
		n := min(1+rng.IntN(1+rng.IntN(100_000)), len(b))
		if _, err := f.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
	if h.reset {
		_ = f.Reset()
	} else {
		_ = f.CloseWrite()
	}
}

// pieceReader returns random pieces, sometimes io.EOF with the last.
type pieceReader struct {
	b   []byte
	rng *rand.Rand
}

func (r *pieceReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b[:min(len(r.b), 1+r.rng.IntN(1+r.rng.IntN(100_000)))])
	if r.b = r.b[n:]; len(r.b) == 0 && r.rng.IntN(2) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (h half) read(f *Flow, rng *rand.Rand, mayReset bool) error {
	want := contents(h.seed, h.size)
	if h.stop < 0 && rng.IntN(3) == 0 {
		var got bytes.Buffer
		_, err := f.WriteTo(&got)
		switch {
		case err == nil && bytes.Equal(got.Bytes(), want):
		case mayReset && bytes.HasPrefix(want, got.Bytes()) && (errors.Is(err, ErrReset) || errors.Is(err, net.ErrClosed)):
		default:
			return fmt.Errorf("flow %d: %d of %d bytes: %w", f.id, got.Len(), len(want), err)
		}
		return nil
	}
	buf := make([]byte, 1+rng.IntN(100_000))
	got := 0
	for h.stop < 0 || got < h.stop {
		n, err := f.Read(buf[:1+rng.IntN(len(buf))])
		if got+n > len(want) || !bytes.Equal(buf[:n], want[got:got+n]) {
			return fmt.Errorf("flow %d: wrong bytes at %d", f.id, got)
		}
		got += n
		switch {
		case errors.Is(err, io.EOF):
			if got != len(want) {
				return fmt.Errorf("flow %d: EOF at %d of %d", f.id, got, len(want))
			}
			return nil
		case errors.Is(err, ErrReset), errors.Is(err, net.ErrClosed):
			if !mayReset {
				return fmt.Errorf("flow %d: at %d: %w", f.id, got, err)
			}
			return nil
		case err != nil:
			return err
		}
	}
	_ = f.CloseRead() // an error: reset meanwhile
	return nil
}

// TestProperty runs random flows over lanes that cut everything into random
// pieces, and whose connections break at random bytes: every byte arrives
// once, in order, FIN and RESET in their place. With a small budget a flow may be reset
// before that.
// TELE_SEEDS=n runs n seeds.
func TestProperty(t *testing.T) {
	seeds := 60
	if s := os.Getenv("TELE_SEEDS"); s != "" {
		seeds, _ = strconv.Atoi(s)
	}
	const parallel = 8 // they mostly wait for the next attempt to dial
	next := make(chan uint64)
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for seed := range next {
				if err := runSeed(t, seed); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
		})
	}
	for seed := range seeds {
		next <- uint64(seed)
	}
	close(next)
	wg.Wait()
}

// wobbly is the network between a laptop and an agent: connections that cut
// everything into random pieces, and break at random bytes.
type wobbly struct {
	server *Server
	seed   uint64
	tb     testing.TB

	mu     sync.Mutex
	rng    *rand.Rand
	conns  int
	breaks int // how many connections still break
	wg     sync.WaitGroup
	made   chan *Tunnel
}

func (w *wobbly) dial(ctx context.Context) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns++
	lane := pipeLane
	if w.rng.IntN(4) == 0 {
		lane = tcpLane
	}
	c, s := lane(w.tb)
	budget := int64(-1)
	if w.conns > 1 && w.rng.IntN(8) == 0 {
		budget = w.rng.Int64N(300) // in the handshake
	} else if w.breaks > 0 {
		budget = 300 + w.rng.Int64N(1<<(8+w.rng.IntN(13)))
	}
	if budget >= 0 {
		w.breaks--
	}
	fate := &fate{left: budget, cut: func() { _, _ = c.Close(), s.Close() }}
	number := uint64(w.conns)
	client := &choppyConn{Conn: &mortalConn{c, fate}, rng: rand.New(rand.NewPCG(w.seed, 2*number))}
	server := &choppyConn{Conn: &mortalConn{s, fate}, rng: rand.New(rand.NewPCG(w.seed, 2*number+1))}
	w.wg.Go(func() {
		if t, first, err := w.server.Handle(ctx, server); err == nil && first {
			w.made <- t
		}
	})
	return client, nil
}

// fate lets both ends of a connection write so many bytes; then it breaks,
// in the middle of a write.
type fate struct {
	mu   sync.Mutex
	left int64 // negative: for ever
	cut  func()
}

type mortalConn struct {
	net.Conn
	fate *fate
}

func (c *mortalConn) Write(p []byte) (int, error) {
	c.fate.mu.Lock()
	n := int64(len(p))
	dies := false
	if c.fate.left >= 0 {
		if dies = n > c.fate.left; dies {
			n = c.fate.left
		}
		c.fate.left -= n
	}
	c.fate.mu.Unlock()
	k, err := c.Conn.Write(p[:n])
	if dies && err == nil {
		c.fate.cut()
		err = io.ErrClosedPipe
	}
	return k, err
}

// changeLanes lets lanes come and retire, now and then.
func changeLanes(t *Tunnel, rng *rand.Rand, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-t.Done():
			return
		case <-time.After(time.Duration(rng.IntN(100)) * time.Millisecond):
		}
		lanes := t.allLanes()
		if i := rng.IntN(len(lanes) + 1); i == len(lanes) && i < 8 {
			t.moreLanes(i + 1)
		} else if i > 0 && i < len(lanes) {
			lanes[i].w.retiring.Store(true)
		}
	}
}

// isEmpty reports whether a tunnel holds no bytes and no credit beyond that of
// the beginning.
func isEmpty(t *Tunnel) bool {
	budget := t.cfg.Budget
	return t.Stats().Held == 0 && budget.held.Load() == 0 && budget.grown.Load() == 0
}

func runSeed(t *testing.T, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	budget := int64(1+rng.IntN(64)) << 20
	lanes := 1 + rng.IntN(4)
	const ping = 40 * time.Millisecond // so that lanes come and go quickly
	server, err := NewServer(Config{Key: testKey, Budget: NewBudget(budget), PingInterval: ping, PingTimeout: 4 * time.Second})
	if err != nil {
		return err
	}
	net := &wobbly{server: server, seed: seed, tb: t, rng: rand.New(rand.NewPCG(seed, 5)), made: make(chan *Tunnel, 1)}
	a, err := Dial(t.Context(), net.dial, Config{Key: testKey, Budget: NewBudget(budget), MinLanes: lanes, MaxLanes: lanes, PingInterval: ping, PingTimeout: 4 * time.Second})
	if err != nil {
		return err
	}
	b := <-net.made
	defer net.wg.Wait()
	defer func() { _, _ = a.Close(), b.Close() }()
	net.mu.Lock()
	net.breaks = rng.IntN(12)
	net.mu.Unlock()
	for _, l := range a.allLanes() { // what is up was dialed before there were breaks
		if rng.IntN(2) == 0 {
			if x := l.current(); x != nil {
				_ = x.conn.Close()
			}
		}
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n := 1 + rng.IntN(8)
	errs := make(chan error, 4*n)
	var wg sync.WaitGroup
	for i := range n {
		opener, acceptor := a, b
		if rng.IntN(2) == 0 {
			opener, acceptor = b, a
		}
		f, g := flowPair(t, opener, acceptor, "tcp")
		var halves [2]half
		for j := range halves {
			halves[j] = half{seed: seed*1000 + uint64(2*i+j), size: rng.IntN(1 << rng.IntN(21)), reset: rng.IntN(8) == 0, stop: -1}
			if rng.IntN(10) == 0 {
				halves[j].stop = rng.IntN(halves[j].size + 1)
			}
		}
		// Credit is a promise: where readers are slow, as on a busy machine, flows may hold
		// more than a small budget, and the one that holds most is reset.
		isTight := budget < 4<<20
		mayReset := halves[0].reset || halves[1].reset || isTight
		run := func(work func(*rand.Rand)) {
			own := rand.New(rand.NewPCG(rng.Uint64(), 4))
			wg.Go(func() { work(own) })
		}
		var ends sync.WaitGroup
		ends.Add(4)
		run(func(r *rand.Rand) { defer ends.Done(); halves[0].write(f, r) })
		run(func(r *rand.Rand) { defer ends.Done(); halves[1].write(g, r) })
		run(func(r *rand.Rand) { defer ends.Done(); errs <- halves[0].read(g, r, mayReset) })
		run(func(r *rand.Rand) { defer ends.Done(); errs <- halves[1].read(f, r, mayReset) })
		run(func(*rand.Rand) {
			ends.Wait()
			_, _ = f.Close(), g.Close()
		})
	}
	done := make(chan struct{})
	changing := rand.New(rand.NewPCG(seed, 6))
	var lanesChange sync.WaitGroup
	lanesChange.Go(func() { changeLanes(a, changing, done) })
	defer lanesChange.Wait()
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("stuck: %+v; %+v: %w", a.Stats(), b.Stats(), errors.Join(a.Err(), b.Err()))
	}
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	waitFor(t, func() bool { return a.Stats().Flows == 0 && b.Stats().Flows == 0 })
	// Not at once: a lane that retires still tells its peer so.
	waitFor(t, func() bool { return isEmpty(a) && isEmpty(b) })
	for _, tun := range []*Tunnel{a, b} {
		if err := tun.Err(); err != nil {
			return err
		}
	}
	return nil
}
