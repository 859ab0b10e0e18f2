package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// rawPeer is a laptop that has done the handshake and then says what it likes.
type rawPeer struct {
	net.Conn
	server *Tunnel
	wg     sync.WaitGroup

	mu     sync.Mutex
	frames []rawFrame // received
}

type rawFrame struct {
	header
	body []byte
}

func newRawPeer(t *testing.T, lane lanes, cfg Config) *rawPeer {
	t.Helper()
	c, s := lane(t)
	cfg.Key = testKey
	accepted := make(chan *Tunnel, 1)
	go func() {
		server, err := accept(context.Background(), s, cfg)
		if err != nil {
			t.Error(err)
		}
		accepted <- server
	}()
	fr := newFrameReader(c)
	if _, err := helloFromClient(c, fr, Config{Key: testKey}, clientHello{}, nothing); err != nil {
		t.Fatal(err)
	}
	fr.grow()
	p := &rawPeer{Conn: c, server: <-accepted}
	p.wg.Go(func() {
		for {
			h, b, err := fr.next()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.frames = append(p.frames, rawFrame{h, append([]byte(nil), b...)})
			p.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = p.Close()
		_ = p.server.Close()
		p.wg.Wait()
	})
	return p
}

func (p *rawPeer) received(typ frameType) (frames []rawFrame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.frames {
		if f.typ == typ {
			frames = append(frames, f)
		}
	}
	return frames
}

func (p *rawPeer) send(t *testing.T, b []byte) {
	t.Helper()
	if _, err := p.Write(b); err != nil {
		t.Logf("send: %v", err) // cut off already
	}
}

// open is a flow that the peer opens and the server accepts.
func (p *rawPeer) open(t *testing.T, id uint32) *Flow {
	t.Helper()
	p.send(t, appendOpen(nil, id, 0, Target{Network: "tcp"}))
	r, err := p.server.AcceptFlow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func rawData(flow uint32, flags uint8, offset uint64, n int) []byte {
	b := appendHeader(nil, typeData, flags, 8+n, flow)
	return append(binary.BigEndian.AppendUint64(b, offset), make([]byte, n)...)
}

func rawDatagram(flow uint32, flags uint8, n int) []byte {
	return append(appendHeader(nil, typeDatagram, flags, n, flow), make([]byte, n)...)
}

func join(frames ...[]byte) (all []byte) {
	for _, f := range frames {
		all = append(all, f...)
	}
	return all
}

// TestHostilePeerIsCutOff: flow 1 is tcp and accepted, 3 is udp and accepted,
// 5 is open and not answered, 2 is the server's and not answered.
func TestHostilePeerIsCutOff(t *testing.T) {
	tcp := Target{Network: "tcp", Address: "x"}
	for _, test := range []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"unknown type", appendHeader(nil, 77, 0, 0, 0), "unknown frame type 77"},
		{"type 0", make([]byte, 8), "unknown frame type 0"},
		{"oversized DATA", appendHeader(nil, typeData, 0, 8+maxChunk+1, 1), "DATA of 32777 bytes"},
		{"oversized OPEN", appendHeader(nil, typeOpen, 0, 65535, 7), "OPEN of 65535 bytes"},
		{"empty DATA", appendHeader(nil, typeData, 0, 8, 1), "DATA of 8 bytes"},
		{"unknown flag", appendHeader(nil, typeData, 2, 9, 1), "flags 0x2"},
		{"PING for a flow", appendHeader(nil, typePing, 0, 8, 1), "PING for flow 1"},
		{"DATA for no flow", appendHeader(nil, typeData, 0, 9, 0), "DATA for flow 0"},
		{"HELLO again", append(appendHeader(nil, typeHello, helloProof, 40, 0), make([]byte, 40)...), "after the handshake"},
		{"PONG without PING", binary.BigEndian.AppendUint64(appendHeader(nil, typePong, 0, 8, 0), 1<<60), "PONG without its PING"},
		{"flow number used again", appendOpen(nil, 1, 0, tcp), "OPEN of flow 1 after 5"},
		{"flow number of ours", appendOpen(nil, 8, 0, tcp), "OPEN of flow 8"},
		{"OPEN too generous", appendOpen(nil, 7, windowLimit+1, tcp), "credit of 16777217 bytes"},
		{"OPEN without network", appendOpen(nil, 7, 0, Target{}), "OPEN of 8 bytes"},
		{"OPEN with lengths that lie", append(appendHeader(nil, typeOpen, 0, 12, 7), 0, 0, 0, 0, 200, 't', 'c', 'p', 0, 0, 0, 0), "do not add up"},
		{"DATA for a flow never opened", rawData(9, 0, 0, 1), "never opened"},
		{"DATA for a flow of ours never opened", rawData(4, 0, 0, 1), "never opened"},
		{"DATA before the answer", rawData(5, 0, 0, 1), "not open"},
		{"DATA at a wrong offset", rawData(1, 0, 1, 1), "at 1 instead of 0"},
		{"DATA at a huge offset", rawData(1, 0, 1<<64-1, 1), "instead of 0"},
		{"DATA twice", join(rawData(1, 0, 0, 10), rawData(1, 0, 0, 10)), "at 0 instead of 10"},
		{"DATA for datagrams", rawData(3, 0, 0, 1), "of datagrams"},
		{"DATA after FIN", join(appendFin(nil, 1, 0), rawData(1, 0, 0, 1)), "after its FIN"},
		{"FIN twice", join(appendFin(nil, 1, 0), appendFin(nil, 1, 0)), "second FIN"},
		{"FIN at a wrong offset", appendFin(nil, 1, 5), "FIN for flow 1 at 5"},
		{"FIN before the answer", appendFin(nil, 5, 0), "not open"},
		{"WINDOW of what was never sent", appendWindow(nil, 1, 1, 2), "1 bytes consumed of 0"},
		{"WINDOW too generous", appendWindow(nil, 1, 0, windowLimit+1), "WINDOW from 0"},
		{"WINDOW backwards", appendWindow(nil, 1, 5, 4), "WINDOW from 5 to 4"},
		{"WINDOW for datagrams", appendWindow(nil, 3, 0, 1), "of datagrams"},
		{"WINDOW before the answer", appendWindow(nil, 5, 0, 1), "not open"},
		{"OPENED of the peer's own flow", appendOpened(nil, 5, 0), "which its sender opened"},
		{"REFUSED of the peer's own flow", appendRefused(nil, 1, Refused, ""), "which is open"},
		{"OPENED twice", join(appendOpened(nil, 2, 0), appendOpened(nil, 2, 0)), "second OPENED"},
		{"OPENED too generous", appendOpened(nil, 2, windowLimit+1), "credit of"},
		{"REFUSED after OPENED", join(appendOpened(nil, 2, 0), appendRefused(nil, 2, Refused, "")), "which is open"},
		{"DATAGRAM for a stream", rawDatagram(1, 0, 1), "no datagrams"},
		{"DATAGRAM before the answer", join(appendOpen(nil, 7, 0, Target{Network: "udp"}), rawDatagram(7, 0, 1)), "not open"},
		{"DATAGRAM after FIN", join(rawDatagram(3, 0, 1), rawDatagram(3, flagMore, maxChunk), rawDatagram(3, flagMore, maxChunk)), "first part"},
		{"first part too short", rawDatagram(3, flagMore, 100), "first part"},
		{"datagram too long", join(rawDatagram(3, flagMore, maxChunk), rawDatagram(3, 0, maxChunk)), "datagram of 65536"},
		{"frame between parts", join(rawDatagram(3, flagMore, maxChunk), rawDatagram(1, 0, 1)), "between the parts"},
		{"credit overrun", func() (b []byte) {
			for offset := uint64(0); offset <= startWindow; offset += maxChunk {
				b = append(b, rawData(1, 0, offset, maxChunk)...)
			}
			return b
		}(), "with credit up to 524288"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newRawPeer(t, pipeLane, Config{})
			p.send(t, join(appendOpen(nil, 1, 0, tcp), appendOpen(nil, 3, 0, Target{Network: "udp"})))
			for range 2 {
				r, err := p.server.AcceptFlow(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := r.Accept(); err != nil {
					t.Fatal(err)
				}
			}
			p.send(t, appendOpen(nil, 5, 0, tcp))
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			wg.Go(func() { _, _ = p.server.Open(ctx, tcp) })
			waitFor(t, func() bool { return len(p.received(typeOpen)) == 1 })

			p.send(t, test.bytes)
			select {
			case <-p.server.Done():
			case <-time.After(5 * time.Second):
				t.Fatal("not cut off")
			}
			if err := p.server.Err(); !isProtocolError(err) || !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("died of %v, not of %q", err, test.want)
			}
			waitFor(t, func() bool { return len(p.received(typeGoaway)) == 1 })
			code, message, err := parseGoaway(p.received(typeGoaway)[0].body)
			if code != goawayProtocol || !strings.Contains(message, test.want) || err != nil {
				t.Errorf("told %d %q, %v", code, message, err)
			}
			if p.server.meter.held.Load() != 0 {
				t.Errorf("%d bytes still held", p.server.meter.held.Load())
			}
		})
	}
}

// TestLateFramesAreIgnored: what crosses a RESET or an end is no offence.
func TestLateFramesAreIgnored(t *testing.T) {
	p := newRawPeer(t, pipeLane, Config{})
	p.send(t, appendOpen(nil, 1, 1000, Target{Network: "tcp"}))
	r, err := p.server.AcceptFlow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Refuse(Denied, "no"); err != nil {
		t.Fatal(err)
	}
	p.send(t, join(appendReset(nil, 1), rawData(1, 0, 99, 5), appendFin(nil, 1, 7), appendWindow(nil, 1, 3, 4),
		rawDatagram(1, 0, 5), rawDatagram(1, flagMore, maxChunk), rawDatagram(1, 0, 5),
		binary.BigEndian.AppendUint64(appendHeader(nil, typePing, 0, 8, 0), 42)))
	waitFor(t, func() bool { return len(p.received(typePong)) == 1 })
	if err := p.server.Err(); err != nil {
		t.Error(err)
	}
}

// TestResetInsteadOfAnswer: an open that is reset was not accepted.
func TestResetInsteadOfAnswer(t *testing.T) {
	p := newRawPeer(t, pipeLane, Config{})
	failed := make(chan error)
	go func() {
		_, err := p.server.Open(t.Context(), Target{Network: "tcp"})
		failed <- err
	}()
	waitFor(t, func() bool { return len(p.received(typeOpen)) == 1 })
	p.send(t, appendReset(nil, 2))
	if err := <-failed; !errors.Is(err, ErrReset) {
		t.Errorf("open: %v", err)
	}
}

// TestOpenFlood: nobody accepts, and the peer does not read its refusals.
func TestOpenFlood(t *testing.T) {
	c, s := net.Pipe()
	accepted := make(chan *Tunnel, 1)
	go func() {
		server, err := accept(context.Background(), s, Config{Key: testKey, Backlog: 10, PingInterval: 50 * time.Millisecond, PingTimeout: time.Minute})
		if err != nil {
			t.Error(err)
		}
		accepted <- server
	}()
	if _, err := helloFromClient(c, newFrameReader(c), Config{Key: testKey}, clientHello{}, nothing); err != nil {
		t.Fatal(err)
	}
	server := <-accepted
	defer func() { _ = server.Close() }()
	defer func() { _ = c.Close() }()
	most, sent := 0, 0
	for id := uint32(1); ; id += 2 {
		_ = c.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(appendOpen(nil, id, 0, Target{Network: "tcp", Meta: make([]byte, maxMeta)})); err != nil {
			break
		}
		sent++
		w := &server.allLanes()[0].w
		w.mu.Lock()
		most = max(most, cap(w.control))
		w.mu.Unlock()
	}
	<-server.Done()
	if err := server.Err(); !errors.Is(err, errOverloaded) {
		t.Errorf("died of %v", err)
	}
	if most > 2*maxControl {
		t.Errorf("%d bytes of answers were kept", most)
	}
	t.Logf("cut off after %d opens, %d bytes of answers", sent, most)
}

// TestTooManyFlows: refused, and there is room again after one is over.
func TestTooManyFlows(t *testing.T) {
	c, s := pair(t, pipeLane, Config{}, Config{MaxFlows: 2})
	f, g := flowPair(t, c, s, "tcp")
	flowPair(t, c, s, "tcp")
	var refused *RefusedError
	if _, err := c.Open(t.Context(), Target{Network: "tcp"}); !errors.As(err, &refused) || refused.Reason != Failed {
		t.Errorf("third flow: %v", err)
	}
	_, _ = f.Reset(), g.Close()
	waitFor(t, func() bool { return s.Stats().Flows == 1 })
	flowPair(t, c, s, "tcp")
}

// TestBudget: flows nobody reads are reset when together they hold too much,
// the greatest first; small ones live.
func TestBudget(t *testing.T) {
	budget := NewBudget(4 << 20)
	p := newRawPeer(t, pipeLane, Config{Budget: budget})
	const flows = 200
	var kept []*Flow
	var frames [][]byte
	for id := uint32(1); id < 2*flows; id += 2 {
		f := p.open(t, id)
		if id == 1 {
			p.send(t, rawData(id, 0, 0, 100))
			kept = append(kept, f)
			continue
		}
		for offset := uint64(0); offset+minWindow <= f.recvLimit; offset += minWindow {
			frames = append(frames, rawData(id, 0, offset, minWindow))
		}
	}
	for _, frame := range frames {
		p.send(t, frame)
		if held := budget.Held(); held > budget.limit+windowLimit {
			t.Fatalf("%d bytes held", held)
		}
	}
	waitFor(t, func() bool { return len(p.received(typeReset)) > 0 })
	if held := budget.Held(); held > budget.limit+maxChunk {
		t.Errorf("%d bytes held", held)
	}
	if n, err := kept[0].Read(make([]byte, 200)); n != 100 || err != nil {
		t.Errorf("small flow: %d, %v", n, err)
	}
}

// TestLimitedGrowsOnce: however often a sender says that it is limited, its
// credit grows once more only when it has used all that it had before the last
// time.
func TestLimitedGrowsOnce(t *testing.T) {
	p := newRawPeer(t, pipeLane, Config{})
	f := p.open(t, 1)
	offset := uint64(0)
	send := func(until uint64, flags uint8) {
		for ; offset < until; offset += maxChunk {
			p.send(t, rawData(1, flags, offset, maxChunk))
			for range maxChunk / 1024 {
				_, _ = f.Read(make([]byte, 1024))
			}
		}
	}
	window := func() uint64 {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.window
	}
	send(startWindow, flagLimited)
	if got := window(); got != windowGrowth*startWindow {
		t.Errorf("limited by the first credit: credit of %d", got)
	}
	send(startWindow+10*maxChunk, flagLimited)
	if got := window(); got != windowGrowth*windowGrowth*startWindow {
		t.Errorf("limited by the second: credit of %d", got)
	}
}

// held is a writer whose TryWrite lasts until it is let go.
type held struct{ entered, leave chan struct{} }

func (h held) Write(p []byte) (int, error) { return len(p), nil }

func (h held) TryWrite(p []byte) (int, error) {
	h.entered <- struct{}{}
	<-h.leave
	return len(p), nil
}

// TestOneFlowOnTwoLanes: frames of a flow that come while one is being handled
// on another lane would be written by two goroutines at once.
func TestOneFlowOnTwoLanes(t *testing.T) {
	p := newRawPeer(t, tcpLane, Config{})
	f := p.open(t, 1)
	w := held{make(chan struct{}, 2), make(chan struct{})}
	f.CopyTo(w, func(int64, error) {})
	first, second := p.server.allLanes()[0], newLane(p.server, 1)
	data := header{typ: typeData, length: 8 + 10, flow: 1}
	done := make(chan error, 1)
	go func() { done <- p.server.handle(first, data, rawData(1, 0, 0, 10)[headerSize:]) }()
	<-w.entered
	for name, err := range map[string]error{
		"DATA": p.server.handle(second, data, rawData(1, 0, 10, 10)[headerSize:]),
		"FIN":  p.server.handle(second, header{typ: typeFin, length: 8, flow: 1}, appendFin(nil, 1, 10)[headerSize:]),
	} {
		if !isProtocolError(err) {
			t.Errorf("%s on another lane: %v", name, err)
		}
	}
	close(w.leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestLaneIsMadeOnce, however many connections ask for it at once.
func TestLaneIsMadeOnce(t *testing.T) {
	for range 200 {
		tun := quietTunnel(t)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 8 {
			wg.Go(func() {
				<-start
				if _, err := tun.laneFor(1); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		if n := len(tun.allLanes()); n != 2 {
			t.Fatalf("%d lanes", n)
		}
	}
}
