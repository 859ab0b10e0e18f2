package h2

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

const (
	// Preface is what a client's connection begins with (RFC 9113, 3.4).
	Preface = http2.ClientPreface
	// HeaderSize is how many bytes of a frame tell what it is (4.1).
	HeaderSize = 9

	// maxHead bounds the fields of a message, as HPACK counts them: 32 bytes more
	// than its name and value for each. Servers take 8 to 64 KiB by default.
	maxHead = 128 << 10
	// tableSize is the largest dynamic table of HPACK on either side: what holds
	// before anything is said (RFC 9113, 6.5.2), and nobody is told of more.
	tableSize = 4096
	// maxAppTable bounds what an app may be told of before it is told of tableSize.
	maxAppTable = 64 << 10
	// maxStreams bounds the open streams of a connection.
	maxStreams = 1024
	// streamWindow is the largest initial window that a client is told of: as much
	// of each stream may have to be held. Streams to the app get the rest at once.
	streamWindow = 64 << 10
	// asideWindow is what a stream to a handler gets while the budget is ample.
	asideWindow = 256 << 10
	// upstreamWindow is the connection's window of a handler: a long round trip away.
	upstreamWindow = 1 << 20
	// lingering is how long an end that was announced may take.
	lingering = 5 * time.Second
)

// Taker is who takes streams: a session.
type Taker interface {
	// Open offers a connection. An error means that the app is to answer, unless
	// Refuses.
	Open(ctx context.Context) (splice.Conn, error)
	// Refuses reports whether nobody else answers a stream that is not taken.
	Refuses() bool
	// Taken is told of each stream that is sent.
	Taken()
	// Ended is closed when no more streams may be offered.
	Ended() <-chan struct{}
}

// Config is what a connection is relayed by.
type Config struct {
	// Client and App are joined, and closed in the end.
	Client, App splice.Conn
	// ClientSent has been read from Client, after the preface; AppSent from App,
	// which has been sent the preface.
	ClientSent, AppSent []byte
	// Opened says that the app has been sent the Opening of ClientSent, as it is.
	Opened bool
	// Pick returns who takes a request, nil for the app. It must not block.
	Pick func([]hpack.HeaderField) Taker
	// Mirrors, if set, returns who gets a copy of a request. It must not block.
	Mirrors func([]hpack.HeaderField) []Mirror
	// DialApp connects to the app, for a request that a handler did not take.
	DialApp func(ctx context.Context) (splice.Conn, error)
	// Watch, if set, is asked at each request for who is told of it in the end, with
	// the relay locked; nil: nobody.
	Watch func() func(Exchange)
	Held  *Budget
	Log   *slog.Logger
}

// MayBegin reports whether b, as far as it goes, is what an app's connection begins
// with: SETTINGS that fit into a frame (3.4).
func MayBegin(b []byte) bool {
	head := [HeaderSize]byte{3: byte(http2.FrameSettings)}
	known := copy(head[:], b)
	size := int(head[1])<<8 | int(head[2])
	return head[0] == 0 && size <= frameSize && (known < 3 || size%6 == 0) && head[3] == byte(http2.FrameSettings) &&
		[5]byte(head[4:]) == [5]byte{}
}

// Opening returns how many bytes of b, which follow a client's preface, an app is to be
// sent along with it: the client's first settings, which some apps do not wait for. It
// is 0 where b has no such frame as a whole.
func Opening(b []byte) int {
	if len(b) < HeaderSize || http2.FrameType(b[3]) != http2.FrameSettings {
		return 0 // without reading it
	}
	_, size := openingOf(b)
	return size
}

// openingOf returns the settings of an Opening, too.
func openingOf(b []byte) (settings []http2.Setting, size int) {
	in := bytes.NewReader(b)
	frames := http2.NewFramer(nil, in)
	frames.SetMaxReadFrameSize(frameSize)
	frame, err := frames.ReadFrame()
	f, ok := frame.(*http2.SettingsFrame)
	if err != nil || !ok || f.IsAck() {
		return nil, 0
	}
	settings, err = settingsOf(f)
	if err != nil || tableOf(settings) > maxAppTable {
		return nil, 0
	}
	return settings, len(b) - in.Len()
}

// Serve relays frames until the connection ends, or ctx does, which resets it. The
// error says why it did not end well.
func Serve(ctx context.Context, cfg Config) error {
	return newRelay(cfg).serve(ctx)
}

func newRelay(cfg Config) *relay {
	r := &relay{cfg: cfg, streams: map[uint32]*stream{}, sides: map[Taker]*peer{}, mirrors: map[Taker]*peer{}, over: make(chan struct{})}
	r.promised, r.appTable = 1<<31-1, tableSize
	r.room = sync.NewCond(&r.mu)
	r.client, r.app = newPeer(r, cfg.Client), newPeer(r, cfg.App)
	r.app.main = true
	r.peers = []*peer{r.client, r.app}
	if cfg.Opened {
		r.openApp()
	}
	return r
}

func (r *relay) serve(ctx context.Context) error {
	cfg := r.cfg
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.ctx = ctx
	r.running.Go(func() { r.read(r.app, cfg.AppSent, r.fromApp) })
	r.running.Go(func() {
		r.waitTold()
		r.read(r.client, cfg.ClientSent, r.fromClient)
	})
	r.running.Go(r.client.write)
	r.running.Go(r.app.write)
	select {
	case <-r.over:
	case <-ctx.Done():
		r.mu.Lock()
		r.end(context.Cause(ctx))
		r.mu.Unlock()
	}
	r.close()
	r.finishCopies()
	cancel()
	r.running.Wait()
	for _, s := range r.streams {
		r.forgetRequest(s)
		r.watched(s)
	}
	_ = cfg.Client.Close()
	return r.err
}

// relay is one connection of a client.
type relay struct {
	cfg     Config
	ctx     context.Context
	running sync.WaitGroup
	over    chan struct{} // closed when the relay ends

	mu      sync.Mutex
	room    *sync.Cond // on mu: a peer has been written to
	ended   bool       // over is closed
	err     error      // why
	client  *peer
	app     *peer
	sides   map[Taker]*peer
	mirrors map[Taker]*peer
	peers   []*peer
	streams map[uint32]*stream
	last    uint32   // the highest stream that the client has opened
	cut     []uint32 // streams that ended before the client had said all
	cutMany uint32   // the highest that is forgotten of them
	aside   uint32   // the highest that did not go to the app
	asides  int      // open streams that did not
	appGone bool
	// promised is the highest stream that the client was told may be answered.
	promised    uint32
	clientEnded bool            // it says no more
	finished    bool            // no copy is waited for any more
	said        []http2.Setting // of the client, as upstreams are told
	told        bool            // the client knows our limits
	// unacked and pings are the client's settings and pings that the app has not
	// acknowledged, at most maxUnacked of each.
	unacked int
	pings   [][8]byte
	// opened: the client's next settings are those that the app knows already.
	opened bool
	// ackOfOurs counts the app's acknowledgements of settings up to the one for settings
	// of our own, which is not passed on. 0: none of these is due.
	ackOfOurs int
	appTable  uint32 // the largest dynamic table of HPACK that the app was told of
}

// openApp corrects, for an app that knows the client's first settings as they are, what
// does not hold for what is relayed. The app has had no request yet that it would have
// answered by them.
func (r *relay) openApp() {
	settings, _ := openingOf(r.cfg.ClientSent)
	r.opened, r.unacked = true, 1
	r.appTable = max(r.appTable, tableOf(settings)) // encoders may announce both sizes, one by one
	if corrections := correctionsTo(settings); len(corrections) > 0 {
		_ = r.app.frames.WriteSettings(corrections...)
		r.ackOfOurs = 2
	}
}

// waitTold waits for the app's first settings, which go before everything else that
// the client is sent.
func (r *relay) waitTold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.told && !r.ended {
		r.room.Wait()
	}
}

// end ends the relay. nil lets the client read what it has been sent.
func (r *relay) end(err error) {
	if !r.ended {
		r.ended, r.err = true, err
		close(r.over)
		r.room.Broadcast()
	}
}

// close ends every connection but those of copies.
func (r *relay) close() {
	r.mu.Lock()
	peers, err := slices.DeleteFunc(slices.Clone(r.peers), func(p *peer) bool { return p.copies != nil }), r.err
	if err == nil {
		// Its reader goes on, so that nothing that is unread resets it.
		_ = r.client.conn.SetDeadline(time.Now().Add(lingering))
		r.client.finish = true
		r.client.flush()
		for r.client.writing {
			r.room.Wait()
		}
	}
	for _, p := range peers {
		p.shut()
	}
	r.mu.Unlock()
	for _, p := range peers {
		switch {
		case p.conn == nil:
		case err != nil:
			_ = splice.Reset(p.conn)
		case p != r.client:
			_ = p.conn.Close()
		}
	}
}

// read passes each frame of a peer to handle, until an end.
func (r *relay) read(p *peer, first []byte, handle func(http2.Frame) error) {
	in := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(first), p.conn), frameSize)
	frames := http2.NewFramer(nil, in)
	frames.SetReuseFrames()
	frames.SetMaxReadFrameSize(frameSize)
	frames.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	if p == r.app {
		frames.ReadMetaHeaders.SetAllowedMaxDynamicTableSize(r.appTable)
	}
	frames.MaxHeaderListSize = maxHead
	for {
		f, err := frames.ReadFrame()
		r.mu.Lock()
		if r.ended && p.copies == nil {
			r.mu.Unlock()
			if p == r.client && r.err == nil {
				_, _ = io.CopyN(io.Discard, in, 1<<20)
			}
			return
		}
		if err == nil {
			err = handle(f)
		}
		if broken, ok := errors.AsType[http2.StreamError](err); ok {
			r.refuse(p, broken)
			err = nil
		}
		if err != nil {
			r.ends(p, err)
			r.settle(nil)
			r.mu.Unlock()
			if p != r.client {
				_ = p.conn.Close()
			}
			return
		}
		if !wholeFrame(in) {
			r.settle(r.behind(p))
		}
		r.waitRoom(p)
		r.mu.Unlock()
	}
}

// wholeFrame reports whether another frame is read without waiting.
func wholeFrame(in *bufio.Reader) bool {
	if in.Buffered() < HeaderSize {
		return false
	}
	b, _ := in.Peek(HeaderSize)
	return in.Buffered() >= HeaderSize+(int(b[0])<<16|int(b[1])<<8|int(b[2]))
}

// behind is the peer that the reader of p may wait for.
func (r *relay) behind(p *peer) *peer {
	if p == r.client {
		return r.app
	}
	return r.client
}

// settle has everything written that is to be, to one peer at once.
func (r *relay) settle(now *peer) {
	for _, p := range r.peers {
		if p != now && (len(p.out) > 0 || p.finish && !p.closed) {
			p.wake()
		}
	}
	if now != nil {
		now.flush()
	}
}

// waitRoom waits while too much is to be written to where p leads, and ends the relay
// where too much is to be written to one that cannot be waited for.
func (r *relay) waitRoom(p *peer) {
	to := r.behind(p)
	if to.full() {
		r.settle(nil)
	}
	for to.full() && !to.closed && !r.ended {
		r.room.Wait()
	}
	for _, other := range r.peers {
		switch {
		case !other.flooded():
		case other.side: // its reader notices
			_ = splice.Reset(other.conn)
			other.shut()
		default:
			r.end(fmt.Errorf("%d bytes wait for a peer that does not read", len(other.out)))
		}
	}
}

// refuse resets a stream whose frame is malformed.
func (r *relay) refuse(p *peer, broken http2.StreamError) {
	_ = p.frames.WriteRSTStream(broken.StreamID, broken.Code)
	if p == r.client && broken.StreamID > r.last {
		r.last = broken.StreamID
		r.cutOff(r.last)
		return
	}
	if p.copies[broken.StreamID] != nil {
		r.endCopy(p, broken.StreamID, broken.Code)
		p.dropped()
		return
	}
	s := r.streams[broken.StreamID]
	if s == nil || p != r.client && s.to != p {
		return
	}
	if p == r.client {
		r.client.drop(s.id)
		r.resetUp(s, broken.Code)
	} else {
		r.toClient(frame{stream: s.id, reset: true, code: broken.Code})
		r.remove(s)
	}
}

// ends is the end of what a peer sends.
func (r *relay) ends(p *peer, err error) {
	var code http2.ConnectionError
	switch {
	case errors.As(err, &code):
	case errors.Is(err, http2.ErrFrameTooLarge):
		code = http2.ConnectionError(http2.ErrCodeFrameSize)
	}
	if code != 0 {
		last := uint32(0) // upstreams open none
		if p == r.client {
			last = min(r.last, r.promised)
		}
		_ = p.frames.WriteGoAway(last, http2.ErrCode(code), nil)
	}
	switch {
	case p == r.client && errors.Is(err, io.EOF):
		r.clientEnded = true
		for _, other := range r.peers {
			other.finish = other != r.client
		}
		if r.appGone {
			r.end(nil)
		}
	case p == r.client && code != 0:
		r.end(nil)
	case p == r.client:
		r.end(err)
	case p == r.app && code == 0 && !errors.Is(err, io.EOF) && r.asides == 0:
		r.end(err)
	case p == r.app:
		r.appEnds(code)
	default:
		r.sideEnds(p, err)
	}
}

// notWritten is a peer that does not take what it is sent any more.
func (r *relay) notWritten(p *peer, err error) {
	p.shut()
	if p == r.client {
		r.end(err)
	} // upstreams' readers notice
}

// appEnds is the end of the app's own connection: the client's, unless handlers
// still answer on it, or it has not taken all of the app's answers.
func (r *relay) appEnds(code http2.ConnectionError) {
	r.appGone = true
	r.app.shut()
	r.promised = min(r.promised, r.last)
	if r.isOver() {
		if code != 0 {
			_ = r.client.frames.WriteGoAway(r.promised, http2.ErrCodeInternal, nil)
		}
		r.end(nil)
		return
	}
	for range r.unacked {
		_ = r.client.frames.WriteSettingsAck()
	}
	for _, data := range r.pings {
		_ = r.client.frames.WritePing(true, data)
	}
	_ = r.client.frames.WriteGoAway(r.promised, http2.ErrCodeNo, nil)
	for _, s := range r.inOrder(r.app) {
		r.toClient(frame{stream: s.id, reset: true, code: http2.ErrCodeInternal})
		r.remove(s)
	}
}

// isOver reports whether the app has ended and nothing is left for the client.
func (r *relay) isOver() bool {
	return r.appGone && r.asides == 0 && (len(r.client.held) == 0 || r.clientEnded)
}

func (r *relay) endIfOver() {
	if r.isOver() {
		r.end(nil)
	}
}

// inOrder returns the open streams of an upstream.
func (r *relay) inOrder(p *peer) (all []*stream) {
	for _, s := range r.streams {
		if s.to == p {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *stream) int { return cmp.Compare(a.id, b.id) })
	return all
}

// toClient sends a frame to the client, a held one in its turn. An upstream that has
// sent more than can be held loses the stream.
func (r *relay) toClient(f frame) {
	if !r.client.send(f) {
		if f.from != nil {
			f.from.owe(len(f.data))
		}
		r.client.drop(f.stream)
		_ = r.client.frames.WriteRSTStream(f.stream, http2.ErrCodeEnhanceYourCalm)
		if s := r.streams[f.stream]; s != nil {
			r.resetUp(s, http2.ErrCodeCancel)
		}
	}
}

// toSide sends a frame to a handler, and resets a stream of which no more can be held.
func (r *relay) toSide(s *stream, f frame) {
	if !s.to.send(f) {
		r.cfg.Log.Debug("stream of a handler that does not read reset", "stream", s.id)
		_ = r.client.frames.WriteRSTStream(s.id, http2.ErrCodeEnhanceYourCalm)
		r.client.drop(s.id)
		r.resetUp(s, http2.ErrCodeCancel)
	}
}
