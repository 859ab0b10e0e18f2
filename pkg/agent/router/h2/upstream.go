package h2

import (
	"errors"
	"slices"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// fromApp passes on what the app says on its own connection.
func (r *relay) fromApp(f http2.Frame) error {
	id := f.Header().StreamID
	switch f := f.(type) {
	case *http2.SettingsFrame:
		return r.appSettings(f)
	case *http2.PingFrame:
		if n := slices.Index(r.pings, f.Data); f.IsAck() && n >= 0 {
			r.pings = slices.Delete(r.pings, n, n+1)
		}
		_ = r.client.frames.WritePing(f.IsAck(), f.Data)
	case *http2.GoAwayFrame:
		r.appGoesAway(f)
	case *http2.WindowUpdateFrame:
		if s := r.streams[id]; id == 0 || s != nil && s.to == r.app {
			r.give(id, f.Increment)
		}
	case *http2.UnknownFrame:
		if s := r.streams[id]; id == 0 || s != nil && s.to == r.app {
			_ = r.client.frames.WriteRawFrame(f.Type, f.Flags, id, f.Payload())
		}
	default:
		return r.fromUpstream(r.app, f)
	}
	return nil
}

// fromSide passes on what a handler says.
func (r *relay) fromSide(p *peer, f http2.Frame) error {
	id := f.Header().StreamID
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		settings, err := settingsOf(f)
		if err != nil {
			return err
		}
		for _, s := range settings {
			p.learn(s)
		}
		_ = p.frames.WriteSettingsAck()
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = p.frames.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		r.cfg.Log.Debug("handler goes away", "code", f.ErrCode.String(), "last", f.LastStreamID, "says", string(f.DebugData()))
		r.sideGoesAway(p, f.LastStreamID)
	case *http2.WindowUpdateFrame:
		return r.sideCredit(p, id, f.Increment)
	default:
		return r.fromUpstream(p, f)
	}
	return nil
}

// fromUpstream passes on answers.
func (r *relay) fromUpstream(p *peer, f http2.Frame) error {
	id := f.Header().StreamID
	s := r.streams[id]
	if s != nil && s.to != p {
		s = nil
	}
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		if s == nil {
			return nil
		}
		if s.toDone {
			return http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
		}
		if f.Truncated {
			return http2.StreamError{StreamID: id, Code: http2.ErrCodeInternal}
		}
		r.answer(s, frame{stream: id, fields: f.Fields, ends: f.StreamEnded()})
	case *http2.DataFrame:
		if s == nil {
			p.owe(int(f.Length))
			return nil
		}
		if s.toDone {
			p.owe(int(f.Length))
			return http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
		}
		data := f.Data()
		if padding := f.Length - uint32(len(data)); padding > 0 {
			p.owe(int(padding))
			_ = p.frames.WriteWindowUpdate(id, padding)
		}
		r.answer(s, frame{stream: id, data: data, ends: f.StreamEnded(), from: p})
	case *http2.RSTStreamFrame:
		if s != nil {
			r.toClient(frame{stream: id, reset: true, code: f.ErrCode})
			r.remove(s)
		}
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

func (r *relay) answer(s *stream, f frame) {
	r.forgetRequest(s)
	s.toDone = s.toDone || f.ends
	if e := s.exchange; e != nil {
		e.Got += int64(len(f.data))
		e.answer(f.fields)
	}
	r.toClient(f)
	r.tidy(s)
}

func (r *relay) appSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		if r.ackOfOurs > 0 {
			if r.ackOfOurs--; r.ackOfOurs == 0 {
				return nil
			}
		}
		_ = r.client.frames.WriteSettingsAck()
		r.unacked = max(0, r.unacked-1)
		return nil
	}
	settings, err := settingsOf(f)
	if err != nil {
		return err
	}
	before, toldBefore := r.more(r.app), r.toldWindow()
	limits := map[http2.SettingID]uint32{
		http2.SettingMaxConcurrentStreams: maxStreams,
		http2.SettingMaxHeaderListSize:    maxHead,
	}
	var out []http2.Setting
	for _, s := range settings {
		r.app.learn(s)
		switch s.ID {
		case http2.SettingHeaderTableSize, http2.SettingMaxFrameSize, http2.SettingEnablePush: // a connection's own
			continue
		case http2.SettingInitialWindowSize:
			s.Val = min(s.Val, streamWindow)
		}
		if limit, ok := limits[s.ID]; ok {
			s.Val = min(s.Val, limit)
			delete(limits, s.ID)
		}
		out = append(out, s)
	}
	if !r.told {
		r.told = true
		r.room.Broadcast()
		for _, id := range []http2.SettingID{http2.SettingMaxConcurrentStreams, http2.SettingMaxHeaderListSize} {
			if limit, ok := limits[id]; ok {
				out = append(out, http2.Setting{ID: id, Val: limit})
			}
		}
	}
	_ = r.client.frames.WriteSettings(out...)
	if less := toldBefore - r.toldWindow(); less > 0 {
		for _, s := range r.streams {
			if s.to.side && !s.clientDone {
				r.give(s.id, uint32(less)) // a handler's window is no smaller for that
			}
		}
	}
	if after := r.more(r.app); after > before {
		for _, s := range r.inOrder(r.app) {
			if !s.clientDone {
				r.give(s.id, after-before)
			}
		}
	}
	return nil
}

// appGoesAway tells the client which streams the app has not looked at. Those that
// went aside are not among them, whatever their number.
func (r *relay) appGoesAway(f *http2.GoAwayFrame) {
	for _, s := range r.inOrder(r.app) {
		if s.id > f.LastStreamID && s.id < r.aside {
			r.toClient(frame{stream: s.id, reset: true, code: http2.ErrCodeRefusedStream})
			r.remove(s)
		}
	}
	r.promised = min(r.promised, max(f.LastStreamID, r.aside))
	_ = r.client.frames.WriteGoAway(r.promised, f.ErrCode, f.DebugData())
}

func (r *relay) sideCredit(p *peer, id, n uint32) error {
	if id == 0 {
		if p.window += int64(n); p.window > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		p.drain()
		return nil
	}
	s := r.streams[id]
	if s == nil || s.to != p {
		return nil
	}
	if s.window += int64(n); s.window > maxWindow {
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeFlowControl}
	}
	p.drain()
	return nil
}

// sideGoesAway is a handler that wants no more streams than up to a number.
func (r *relay) sideGoesAway(p *peer, last uint32) {
	r.retire(p)
	var again []*stream
	for _, s := range r.inOrder(p) {
		if s.id > last {
			again = append(again, s)
		}
	}
	r.bringBack(again, http2.ErrCodeRefusedStream, errors.New("the handler went away"))
}

// retire sends no more streams to a handler's connection, and closes it when the
// last has ended.
func (r *relay) retire(p *peer) {
	for _, all := range []map[Taker]*peer{r.sides, r.mirrors} {
		if all[p.taker] == p {
			delete(all, p.taker)
		}
	}
	p.leaves = true
	if p.open == 0 {
		p.finish = true
	}
}

// sideOf returns the connection to who takes a request, a new one if there is none.
func (r *relay) sideOf(taker Taker) *peer {
	if p := r.sides[taker]; p != nil {
		return p
	}
	p := r.newSide(taker)
	r.sides[taker] = p
	return p
}

// newSide makes a connection aside; nil: to the app.
func (r *relay) newSide(taker Taker) *peer {
	p := newPeer(r, nil)
	p.side, p.taker, p.gone = true, taker, make(chan struct{})
	p.finish = r.clientEnded
	r.peers = append(r.peers, p)
	r.running.Go(func() { r.serveSide(p) })
	return p
}

// serveSide opens a connection aside and reads it until it ends. What was meant for
// a handler that cannot be reached goes to the app.
func (r *relay) serveSide(p *peer) {
	defer r.forget(p)
	dial := r.cfg.DialApp
	if p.taker != nil {
		dial = p.taker.Open
	}
	conn, err := dial(r.ctx)
	if err != nil && p.taker != nil {
		r.cfg.Log.Debug("session did not take the connection", "err", err)
		if r.refused(p, err) {
			return
		}
		conn, err = r.cfg.DialApp(r.ctx)
	}
	r.mu.Lock()
	if err != nil || r.ended && (p.copies == nil || r.finished) {
		r.sideEnds(p, err)
		r.settle(nil)
		r.mu.Unlock()
		if err == nil {
			_ = splice.Reset(conn)
		}
		return
	}
	p.conn = conn
	_, _ = outWriter{p}.Write([]byte(Preface))
	_ = p.frames.WriteSettings(r.said...)
	_ = p.frames.WriteWindowUpdate(0, upstreamWindow-startWindow)
	p.drain()
	taker := p.taker
	r.mu.Unlock()
	r.running.Go(p.write)
	p.wake()
	if taker != nil {
		stop := make(chan struct{})
		defer close(stop)
		r.running.Go(func() { r.awaitEnd(p, taker, stop) })
	}
	handle := r.fromSide
	if p.copies != nil {
		handle = r.fromMirror
	}
	r.read(p, nil, func(f http2.Frame) error { return handle(p, f) })
}

// NobodyAnswers is the answer to a request that nobody takes.
const NobodyAnswers = "the handler of this intercept does not answer"

// refused is a handler that cannot be reached. It reports whether nobody is to answer
// in its place; else p is to become a connection to the app.
func (r *relay) refused(p *peer, why error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retire(p)
	if p.copies != nil {
		r.copiesLost(p)
		return true
	}
	streams := r.inOrder(p)
	if !p.taker.Refuses() {
		for _, s := range streams {
			if s.exchange != nil {
				s.exchange.Meant, s.exchange.Instead = p.taker, why.Error()
			}
		}
		p.taker = nil
		return false
	}
	for _, s := range streams {
		r.refuseStream(s)
	}
	r.settle(nil)
	return true
}

// refuseStream answers that nobody takes a request, as its client expects it.
func (r *relay) refuseStream(s *stream) {
	if s.exchange != nil {
		s.exchange.Failure = NobodyAnswers
	}
	p := s.to
	p.drop(s.id)
	if s.grpc {
		r.answer(s, frame{stream: s.id, ends: true, fields: []hpack.HeaderField{
			{Name: ":status", Value: "200"},
			{Name: "content-type", Value: "application/grpc"},
			{Name: "grpc-status", Value: "14"}, // UNAVAILABLE
			{Name: "grpc-message", Value: NobodyAnswers},
		}})
	} else {
		r.answer(s, frame{stream: s.id, fields: []hpack.HeaderField{
			{Name: ":status", Value: "503"}, {Name: "content-type", Value: "text/plain"},
		}})
		r.answer(s, frame{stream: s.id, data: []byte(NobodyAnswers), ends: true})
	}
	if r.streams[s.id] == s { // its client has not sent all
		r.toClient(frame{stream: s.id, reset: true, code: http2.ErrCodeNo})
		r.remove(s)
	}
}

// awaitEnd retires a handler's connection when its session wants no more.
func (r *relay) awaitEnd(p *peer, taker Taker, stop <-chan struct{}) {
	select {
	case <-taker.Ended():
		r.mu.Lock()
		r.retire(p)
		r.settle(nil)
		r.mu.Unlock()
	case <-stop:
	}
}

// forget drops a peer that has ended.
func (r *relay) forget(p *peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retire(p)
	if p.copies != nil {
		r.copiesLost(p)
	}
	p.shut()
	close(p.gone)
	r.peers = slices.DeleteFunc(r.peers, func(other *peer) bool { return other == p })
}

// sideEnds is the end of a handler's connection.
func (r *relay) sideEnds(p *peer, err error) {
	r.retire(p)
	if p.copies != nil {
		r.copiesLost(p)
		p.shut()
		return
	}
	code := http2.ErrCodeInternal
	if p.conn == nil {
		code = http2.ErrCodeRefusedStream
	}
	streams := r.inOrder(p)
	if len(streams) > 0 {
		r.cfg.Log.Debug("handler's connection ended", "err", err, "streams", len(streams))
	}
	p.shut()
	r.bringBack(streams, code, err)
}

// bringBack sends requests to the app that a handler did not answer, where they may
// be sent twice, and resets the others.
func (r *relay) bringBack(streams []*stream, code http2.ErrCode, why error) {
	var spare *peer
	for _, s := range streams {
		if s.again == nil || s.to.taker == nil || s.to.taker.Refuses() {
			if s.exchange != nil && why != nil {
				s.exchange.Failure = why.Error()
			}
			r.toClient(frame{stream: s.id, reset: true, code: code})
			r.remove(s)
			continue
		}
		if spare == nil {
			spare = r.newSide(nil)
			spare.leaves = true
		}
		if s.exchange != nil && why != nil {
			s.exchange.Meant, s.exchange.Instead = s.to.taker, why.Error()
		}
		s.to.drop(s.id)
		s.to.leave()
		s.to, s.opened = spare, false
		spare.open++
		s.window = spare.initial
		request := s.again
		r.forgetRequest(s)
		r.toSide(s, frame{stream: s.id, fields: request, opens: true, ends: true})
		if r.streams[s.id] == s && s.given > 0 {
			r.toSide(s, frame{stream: s.id, credit: s.given})
		}
	}
}
