package h2

import (
	"slices"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// fromClient passes on what the client sends.
func (r *relay) fromClient(f http2.Frame) error {
	id := f.Header().StreamID
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		return r.clientHead(f)
	case *http2.DataFrame:
		return r.clientData(f)
	case *http2.RSTStreamFrame:
		if id > r.last {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		r.client.drop(id)
		r.endCopies(id, f.ErrCode)
		if s := r.streams[id]; s != nil {
			s.clientDone = true
			r.resetUp(s, f.ErrCode)
		}
		r.endIfOver()
	case *http2.WindowUpdateFrame:
		return r.clientCredit(id, f.Increment)
	case *http2.SettingsFrame:
		return r.clientSettings(f)
	case *http2.PingFrame:
		switch {
		case f.IsAck():
		case r.appGone:
			_ = r.client.frames.WritePing(true, f.Data)
		case len(r.pings) < maxUnacked:
			r.pings = append(r.pings, f.Data)
		}
		_ = r.app.frames.WritePing(f.IsAck(), f.Data)
	case *http2.GoAwayFrame:
		_ = r.app.frames.WriteGoAway(f.LastStreamID, f.ErrCode, f.DebugData())
	case *http2.PriorityFrame:
		s := r.streams[id]
		switch {
		case s == nil && f.StreamDep == id: // what the app would say of it is not of a stream
			_ = r.client.frames.WriteRSTStream(id, http2.ErrCodeProtocol)
		case s == nil || s.to == r.app:
			_ = r.app.frames.WritePriority(id, f.PriorityParam)
		}
	case *http2.PriorityUpdateFrame:
		_ = r.app.frames.WritePriorityUpdate(f.PrioritizedStreamID, f.Priority)
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	case *http2.UnknownFrame:
		if s := r.streams[id]; id == 0 || s != nil && s.to == r.app {
			_ = r.app.frames.WriteRawFrame(f.Type, f.Flags, id, f.Payload())
		}
	}
	return nil
}

// clientHead is a request, or the trailers of one.
func (r *relay) clientHead(f *http2.MetaHeadersFrame) error {
	id := f.StreamID
	out := frame{stream: id, fields: f.Fields, ends: f.StreamEnded()}
	if f.HasPriority() {
		out.priority = f.Priority
	}
	if s := r.streams[id]; s != nil {
		if s.to.side && s.clientDone {
			return http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
		}
		if f.Truncated {
			return http2.StreamError{StreamID: id, Code: http2.ErrCodeEnhanceYourCalm}
		}
		s.clientDone = s.clientDone || out.ends
		out.priority = http2.PriorityParam{}
		r.copied(out)
		r.toUpstream(s, out)
		return nil
	}
	switch {
	case id%2 == 0:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	case id <= r.last && r.mayBeLate(id):
		return nil
	case id == r.last:
		return http2.ConnectionError(http2.ErrCodeStreamClosed)
	case id < r.last:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	case f.Truncated:
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeEnhanceYourCalm}
	case len(r.streams) >= maxStreams, id > r.promised:
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeRefusedStream}
	}
	r.last = id
	out.opens = true
	s := &stream{id: id, to: r.app, clientDone: out.ends}
	if taker := r.takerOf(f); taker != nil {
		s.to = r.sideOf(taker)
		s.window = s.to.initial
		out.priority = http2.PriorityParam{}
		r.aside = id
		r.asides++
		s.grpc = isGRPC(f.Fields)
		if repeats(f) {
			r.mayRepeat(s, f.Fields)
		}
	}
	r.streams[id] = s
	r.watch(s, f.Fields)
	r.copies(out)
	s.to.open++
	r.toUpstream(s, out)
	if more := r.more(s.to); more > 0 && !out.ends {
		_ = r.client.frames.WriteWindowUpdate(id, more)
	}
	return nil
}

// takerOf returns who takes a request. A tunnel through the app, CONNECT, is the
// app's.
func (r *relay) takerOf(f *http2.MetaHeadersFrame) Taker {
	if f.PseudoValue("method") == "CONNECT" {
		return nil
	}
	return r.cfg.Pick(f.Fields)
}

// repeats reports whether a request may be sent twice.
func repeats(f *http2.MetaHeadersFrame) bool {
	return f.StreamEnded() && slices.Contains([]string{"GET", "HEAD", "OPTIONS"}, f.PseudoValue("method"))
}

func isGRPC(fields []hpack.HeaderField) bool {
	return slices.ContainsFunc(fields, func(f hpack.HeaderField) bool {
		return f.Name == "content-type" && strings.HasPrefix(f.Value, "application/grpc")
	})
}

// toldWindow is what the client was told of a new stream's window.
func (r *relay) toldWindow() int64 { return min(r.app.initial, streamWindow) }

// more is what a new stream to an upstream may send beyond what the client was told.
func (r *relay) more(to *peer) uint32 {
	told := r.toldWindow()
	switch {
	case to == r.app:
		return uint32(max(0, r.app.initial-told))
	case r.cfg.Held.ample():
		return uint32(max(0, asideWindow-told))
	}
	return uint32(max(0, startWindow-told))
}

// oweStream gives the client credit for n bytes that have gone to a handler, some
// time. It does not wait for the handler's: that is for a window which may be far
// larger than what the client was given.
func (r *relay) oweStream(s *stream, n int) {
	if s.owed += n; s.owed >= creditStep && !s.clientDone {
		r.give(s.id, uint32(s.owed))
		s.owed = 0
	}
}

func (r *relay) toUpstream(s *stream, f frame) {
	if s.to == r.app {
		r.app.send(f)
	} else {
		r.toSide(s, f)
	}
	r.tidy(s)
}

func (r *relay) clientData(f *http2.DataFrame) error {
	s := r.streams[f.StreamID]
	size := f.Length
	if s == nil {
		if f.StreamID > r.last {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		r.give(0, size)
		if !r.mayBeLate(f.StreamID) {
			return http2.ConnectionError(http2.ErrCodeStreamClosed)
		}
		return nil
	}
	if s.to.side && s.clientDone {
		r.give(0, size)
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeStreamClosed}
	}
	s.clientDone = s.clientDone || f.StreamEnded()
	data := f.Data()
	if s.exchange != nil {
		s.exchange.Sent += int64(len(data))
	}
	padding := size - uint32(len(data))
	if !s.clientDone {
		r.give(s.id, padding)
	}
	if s.to == r.app {
		r.give(0, padding)
	} else {
		r.give(0, size)
		if len(data) == 0 && !f.StreamEnded() {
			return nil
		}
	}
	out := frame{stream: s.id, data: data, ends: f.StreamEnded()}
	r.copied(out)
	r.toUpstream(s, out)
	return nil
}

// give gives the client credit of our own.
func (r *relay) give(stream, n uint32) {
	if n > 0 {
		_ = r.client.frames.WriteWindowUpdate(stream, n)
	}
}

func (r *relay) clientCredit(id, n uint32) error {
	if id == 0 {
		if r.client.window += int64(n); r.client.window > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		r.client.drain()
		r.endIfOver()
		return nil
	}
	if id > r.last {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if s := r.streams[id]; s != nil {
		if s.again != nil {
			s.given = min(s.given+n, maxWindow)
		}
		r.toUpstream(s, frame{stream: id, credit: n})
	}
	return nil
}

func (r *relay) clientSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		_ = r.app.frames.WriteSettingsAck()
		return nil
	}
	settings, err := settingsOf(f)
	if err != nil {
		return err
	}
	for _, s := range settings {
		r.client.learn(s)
	}
	out := forUpstreams(settings)
	for _, p := range r.peers {
		if p == r.app && !r.opened || p.side && p.conn != nil {
			_ = p.frames.WriteSettings(out...)
		}
	}
	switch {
	case r.opened: // it is counted, and acknowledged if the app has gone
	case r.appGone:
		_ = r.client.frames.WriteSettingsAck()
	default:
		r.unacked = min(r.unacked+1, maxUnacked)
	}
	r.opened = false
	for _, s := range out {
		r.said = slices.DeleteFunc(r.said, func(old http2.Setting) bool { return old.ID == s.ID })
	}
	r.said = append(r.said, out...)
	if len(r.said) > maxSettings {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}

// maxSettings bounds the settings that are remembered: there are a dozen.
const maxSettings = 64

// forUpstreams returns what upstreams are told of a client's settings.
func forUpstreams(settings []http2.Setting) []http2.Setting {
	out := []http2.Setting{{ID: http2.SettingEnablePush}} // nothing here reads promises
	for _, s := range settings {
		switch s.ID {
		case http2.SettingHeaderTableSize, http2.SettingMaxFrameSize, http2.SettingEnablePush: // a connection's own
		default:
			out = append(out, s)
		}
	}
	return out
}

// correctionsTo returns what an app that knows a client's own settings is to be told
// afterwards: what is relayed holds to the defaults (RFC 9113, 6.5.2), and pushes nothing.
func correctionsTo(settings []http2.Setting) (corrections []http2.Setting) {
	effective := map[http2.SettingID]uint32{http2.SettingEnablePush: 1}
	for _, s := range settings {
		effective[s.ID] = s.Val
	}
	for _, limit := range []http2.Setting{
		{ID: http2.SettingEnablePush},
		{ID: http2.SettingHeaderTableSize, Val: tableSize},
		{ID: http2.SettingMaxFrameSize, Val: frameSize},
	} {
		if effective[limit.ID] > limit.Val {
			corrections = append(corrections, limit)
		}
	}
	return corrections
}

// tableOf returns the size of the dynamic table that settings ask for, 0 if they do not.
func tableOf(settings []http2.Setting) (size uint32) {
	for _, s := range settings {
		if s.ID == http2.SettingHeaderTableSize {
			size = max(size, s.Val)
		}
	}
	return size
}

// settingsOf returns the settings of a frame that are all valid.
func settingsOf(f *http2.SettingsFrame) (all []http2.Setting, err error) {
	if f.NumSettings() > maxSettings {
		return nil, http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	err = f.ForeachSetting(func(s http2.Setting) error {
		all = append(all, s)
		return s.Valid()
	})
	return all, err
}
