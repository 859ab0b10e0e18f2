package tunnel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// office is a server that laptops dial, over pipes that can be cut.
type office struct {
	t      *testing.T
	server *Server
	made   chan *Tunnel
	wg     sync.WaitGroup
	link   func(c, s net.Conn) (laptop, agent net.Conn)

	mu    sync.Mutex
	conns []*frozenConn // the laptop's ends
	away  bool          // dials fail
}

func newOffice(t *testing.T) *office {
	t.Helper()
	server, err := NewServer(Config{Key: testKey})
	if err != nil {
		t.Fatal(err)
	}
	o := &office{t: t, server: server, made: make(chan *Tunnel, 4)}
	o.link = func(c, s net.Conn) (net.Conn, net.Conn) { return c, s }
	t.Cleanup(o.wg.Wait)
	return o
}

var errAway = errors.New("nobody is there")

func (o *office) dial(context.Context) (net.Conn, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away {
		return nil, errAway
	}
	c, s := o.link(net.Pipe())
	conn := newFrozenConn(c)
	o.conns = append(o.conns, conn)
	server := o.server
	o.wg.Go(func() {
		if t, first, err := server.Handle(context.Background(), s); err == nil && first {
			o.made <- t
		}
	})
	return conn, nil
}

func (o *office) connect(cfg Config) (laptop, agent *Tunnel) {
	o.t.Helper()
	cfg.Key = testKey
	laptop, err := Dial(context.Background(), o.dial, cfg)
	if err != nil {
		o.t.Fatal(err)
	}
	agent = <-o.made
	o.t.Cleanup(func() { _, _ = laptop.Close(), agent.Close() })
	return laptop, agent
}

// cut ends all connections there are; away: there will be no others.
func (o *office) cut(away bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.away = away
	for _, c := range o.conns {
		_ = c.Close()
	}
}

// freeze makes black holes of all connections there are.
func (o *office) freeze() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.conns {
		c.freeze()
	}
}

// echoes wants a word to come back over a flow whose other end is g.
func echoes(t *testing.T, f, g *Flow, word string) {
	t.Helper()
	go func() {
		b := make([]byte, len(word))
		if _, err := io.ReadFull(g, b); err == nil {
			_, _ = g.Write(b)
		}
	}()
	if _, err := io.WriteString(f, word); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(f, got); err != nil || string(got) != word {
		t.Fatalf("%q came back as %q, %v", word, got, err)
	}
}

// TestAllLanesCut: flows of both ends go on when the lanes are back soon.
func TestAllLanesCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		a, b := o.connect(Config{MinLanes: 3, MaxLanes: 3})
		f, g := flowPair(t, a, b, "tcp")
		p, q := flowPair(t, b, a, "tcp")
		for range 20 {
			o.cut(false)
			echoes(t, f, g, "laptop's")
			echoes(t, p, q, "agent's")
		}
		time.Sleep(time.Minute)
		if st := a.Stats(); st.Lanes != 3 || st.Resumes < 20 || st.Held != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestBlackHole: what swallows everything is noticed by silence.
func TestBlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		a, b := o.connect(Config{MinLanes: 2})
		f, g := flowPair(t, a, b, "tcp")
		time.Sleep(10 * time.Second)
		o.freeze()
		begin := time.Now()
		echoes(t, f, g, "after the hole")
		if took := time.Since(begin); took < 3*time.Second || took > 6*time.Second {
			t.Errorf("noticed after %v", took)
		}
	})
}

// TestLostAndFound: while the laptop is away, its flows wait, opens too, and
// the agent's are reset.
func TestLostAndFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		a, b := o.connect(Config{})
		f, g := flowPair(t, a, b, "tcp")
		p, q := flowPair(t, b, a, "tcp")
		o.cut(true)
		time.Sleep(5 * time.Second)
		for _, end := range []*Tunnel{a, b} {
			if since, lost := end.Lost(); !lost || end.Up() || time.Since(since) > 2*time.Second {
				t.Errorf("lost: %v, since %v", lost, since)
			}
		}
		for _, flow := range []*Flow{p, q} {
			if _, err := flow.Read(make([]byte, 1)); !errors.Is(err, errLost) {
				t.Errorf("a flow of the agent's: %v", err)
			}
		}
		opened := make(chan error, 1)
		go func() {
			_, err := a.Open(context.Background(), Target{Network: "tcp"})
			opened <- err
		}()
		time.Sleep(5 * time.Minute)
		o.mu.Lock()
		o.away = false
		o.mu.Unlock()
		r, err := b.AcceptFlow(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Accept(); err != nil {
			t.Error(err)
		}
		if err := <-opened; err != nil {
			t.Errorf("open: %v", err)
		}
		echoes(t, f, g, "still there")
		time.Sleep(time.Second)
		if _, lost := b.Lost(); lost {
			t.Error("not found")
		}
	})
}

// TestAgentIsAnother: a tunnel that nobody knows is over at once.
func TestAgentIsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		a, b := o.connect(Config{})
		f, _ := flowPair(t, a, b, "tcp")
		other, err := NewServer(Config{Key: testKey})
		if err != nil {
			t.Fatal(err)
		}
		o.mu.Lock()
		o.server = other
		o.mu.Unlock()
		o.cut(false)
		if _, err := f.Read(make([]byte, 1)); !errors.Is(err, ErrUnknownTunnel) || !errors.Is(err, ErrClosed) {
			t.Errorf("read: %v", err)
		}
	})
}

// TestRotation: connections are replaced before they are too old, and nothing
// is lost.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		a, b := o.connect(Config{MaxLaneAge: time.Minute})
		f, g := flowPair(t, a, b, "tcp")
		for range 600 {
			time.Sleep(time.Second)
			echoes(t, f, g, "tick")
		}
		if n := a.Stats().Resumes; n < 10 || n > 13 {
			t.Errorf("%d connections took over in 10 minutes", n)
		}
	})
}

// TestLanesAdapt: more while each carries all it can, as many as are allowed,
// and back when there is nothing to do, time and again.
func TestLanesAdapt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 2 << 20
		o := newOffice(t)
		o.link = func(c, s net.Conn) (net.Conn, net.Conn) { return &slowConn{c, rate}, &slowConn{s, rate} }
		limit := NewLaneLimit(4)
		a, b := o.connect(Config{Lanes: limit})
		burst := func(from, to *Tunnel) (bytes int) {
			var got atomic.Int64
			var flows []*Flow
			for range 8 {
				f, g := flowPair(t, from, to, "tcp")
				flows = append(flows, f, g)
				go func() {
					buf := make([]byte, 64<<10)
					for {
						if _, err := f.Write(buf); err != nil {
							return
						}
					}
				}()
				go func() {
					buf := make([]byte, 64<<10)
					for {
						n, err := g.Read(buf)
						if err != nil {
							return
						}
						got.Add(int64(n))
					}
				}()
			}
			time.Sleep(10 * time.Second)
			before := got.Load()
			time.Sleep(10 * time.Second)
			bytes = int(got.Load() - before)
			if n := a.Stats().Lanes; n != 4 {
				t.Errorf("%d lanes while busy", n)
			}
			for _, f := range flows {
				_ = f.Reset()
			}
			return bytes
		}
		for _, ends := range [][2]*Tunnel{{a, b}, {b, a}, {a, b}} {
			if got, want := burst(ends[0], ends[1]), 10*rate*5/2; got < want {
				t.Errorf("%d bytes in 10 s, not %d: fewer than three lanes' worth", got, want)
			}
			time.Sleep(10 * time.Minute)
			if la, lb, free := len(a.allLanes()), len(b.allLanes()), limit.free.Load(); la != 1 || lb != 1 || free != 3 {
				t.Errorf("when idle the laptop has %d lanes, the agent %d, %d are free", la, lb, free)
			}
		}
		f, g := flowPair(t, a, b, "tcp")
		echoes(t, f, g, "over the one that is left")
	})
}

// TestHostileLane: what only a broken or hostile peer says about a lane.
func TestHostileLane(t *testing.T) {
	ack := func(n uint64) []byte {
		return binary.BigEndian.AppendUint64(appendHeader(nil, typeAck, 0, 8, 0), n)
	}
	for name, test := range map[string]struct {
		bytes []byte
		want  string
	}{
		"ACK of what was not sent": {ack(1), "ACK of 1 bytes"},
		"RETIRE of lane 0":         {appendHeader(nil, typeRetire, 0, 0, 0), "RETIRE of lane 0"},
		"too many missing":         {appendOpen(nil, 2*maxMissing+9, 0, Target{Network: "tcp"}), "OPEN of flow"},
		"numbers descend":          {join(appendOpen(nil, 9, 0, Target{Network: "tcp"}), appendOpen(nil, 7, 0, Target{Network: "tcp"})), "OPEN of flow 7 after 9"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newRawPeer(t, pipeLane, Config{})
			p.send(t, test.bytes)
			select {
			case <-p.server.Done():
			case <-time.After(5 * time.Second):
				t.Fatal("not cut off")
			}
			if err := p.server.Err(); !isProtocolError(err) || !bytes.Contains([]byte(err.Error()), []byte(test.want)) {
				t.Errorf("died of %v, not of %q", err, test.want)
			}
		})
	}
}
