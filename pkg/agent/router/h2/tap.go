package h2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// maxTapped bounds a head, in several frames too, that a tap reads which keeps
	// messages; others read no more than what the relay does.
	maxTapped = 1 << 20
	// maxTable bounds the table of HPACK that a tap follows: what browsers offer.
	maxTable = 64 << 10
	// TapNotes is how much memory of exchanges that have not ended a tap has which
	// keeps no messages; those beyond are not followed.
	TapNotes = 64 << 10
)

// Tap sees the streams of a connection that goes to one place as a whole, and changes
// nothing. Its methods are not to be called concurrently.
type Tap struct {
	seen   func(Exchange, *Message, *Message)
	keep   int
	most   int  // bytes of a frame other than DATA, or of a head in several
	broken bool // nothing more is understood
	client tapHalf
	server tapHalf
	open   map[uint32]*tapped
	noted  int // bytes of them
}

// tapHalf is one direction.
type tapHalf struct {
	in     []byte
	whole  bytes.Reader // what frames reads
	data   uint32       // the stream of a DATA frame that goes on
	left   int          // bytes of it to come
	ends   bool         // it ends its stream
	frames *http2.Framer
}

// tapped is a stream.
type tapped struct {
	Exchange
	asked, answered Message
	sent            bool // the request is whole
}

// NewTap returns a tap that tells of each exchange when it has ended, with the first
// keep bytes of each body.
func NewTap(keep int, seen func(e Exchange, asked, answered *Message)) *Tap {
	t := &Tap{seen: seen, keep: keep, most: maxHead, open: map[uint32]*tapped{}}
	if keep > 0 {
		t.most = maxTapped
	}
	for _, h := range []*tapHalf{&t.client, &t.server} {
		h.frames = http2.NewFramer(nil, &h.whole)
		h.frames.SetReuseFrames()
		h.frames.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
		h.frames.MaxHeaderListSize = uint32(t.most)
	}
	return t
}

// Client shows what the client has sent after the preface.
func (t *Tap) Client(b []byte) { t.show(&t.client, &t.server, b) }

// Server shows what the client has been answered.
func (t *Tap) Server(b []byte) { t.show(&t.server, &t.client, b) }

// Close tells of what has not ended.
func (t *Tap) Close() {
	for id := range t.open {
		t.end(id, "the connection ended")
	}
}

func (t *Tap) show(h, other *tapHalf, b []byte) {
	if t.broken {
		return
	}
	h.in = append(h.in, b...)
	for !t.broken {
		if n := min(h.left, len(h.in)); h.left > 0 && n > 0 {
			t.body(h, h.in[:n])
			h.in = h.in[n:]
		}
		if h.left > 0 || len(h.in) < HeaderSize {
			return
		}
		if t.startBody(h) {
			continue
		}
		n := wholeHead(h.in)
		if n > t.most {
			t.forget()
			return
		}
		if n > len(h.in) {
			return
		}
		h.whole.Reset(h.in[:n])
		h.in = h.in[n:] // before the frame may have everything forgotten
		f, err := h.frames.ReadFrame()
		if err == nil {
			t.frame(h, other, f)
		} else if _, ok := errors.AsType[http2.StreamError](err); !ok {
			t.forget()
			return
		}
	}
}

// forget is for when nothing more is understood, nor told of.
func (t *Tap) forget() {
	t.broken, t.client.in, t.server.in = true, nil, nil
	t.open, t.noted = map[uint32]*tapped{}, 0
}

// startBody reads the head of a DATA frame without padding, which may be large and
// is not waited for as a whole.
func (t *Tap) startBody(h *tapHalf) bool {
	kind, flags := http2.FrameType(h.in[3]), http2.Flags(h.in[4])
	if kind != http2.FrameData || flags.Has(http2.FlagDataPadded) {
		return false
	}
	h.left = int(h.in[0])<<16 | int(h.in[1])<<8 | int(h.in[2])
	h.data = binary.BigEndian.Uint32(h.in[5:]) &^ (1 << 31)
	h.ends = flags.Has(http2.FlagDataEndStream)
	h.in = h.in[HeaderSize:]
	if h.left == 0 {
		t.body(h, nil)
	}
	return true
}

// body is a part of the DATA frame that goes on.
func (t *Tap) body(h *tapHalf, b []byte) {
	h.left -= len(b)
	t.part(h, h.data, b, h.ends && h.left == 0)
}

// part is a part of a body, ends that it is the last.
func (t *Tap) part(h *tapHalf, id uint32, b []byte, ends bool) {
	x := t.open[id]
	switch {
	case x == nil:
	case h == &t.client:
		x.Sent += int64(len(b))
		x.asked.Add(b, t.keep)
		x.sent = x.sent || ends
	default:
		x.Got += int64(len(b))
		x.answered.Add(b, t.keep)
		if ends {
			t.end(id, "")
		}
	}
}

// wholeHead returns how long the first frame is, with the CONTINUATIONs of a head;
// more than len(b) if there is more to come, 0 if that is not known.
func wholeHead(b []byte) (n int) {
	for {
		if len(b) < n+HeaderSize {
			if n > 0 {
				return n + HeaderSize
			}
			return 0
		}
		head := b[n : n+HeaderSize]
		kind, flags := http2.FrameType(head[3]), http2.Flags(head[4])
		n += HeaderSize + (int(head[0])<<16 | int(head[1])<<8 | int(head[2]))
		heads := kind == http2.FrameHeaders || kind == http2.FrameContinuation
		if !heads || flags.Has(http2.FlagHeadersEndHeaders) || n > maxTapped {
			return n
		}
	}
}

func (t *Tap) frame(h, other *tapHalf, f http2.Frame) {
	id := f.Header().StreamID
	x := t.open[id]
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if size, ok := f.Value(http2.SettingHeaderTableSize); ok {
			other.frames.ReadMetaHeaders.SetAllowedMaxDynamicTableSize(min(size, maxTable))
		}
	case *http2.MetaHeadersFrame:
		switch {
		case h == &t.client && x == nil && len(t.open) < maxStreams && f.PseudoValue("method") != "":
			x = &tapped{}
			x.ask(f.Fields)
			x.asked.head(f.Fields, t.keep)
			if t.keep == 0 && t.noted+x.Size() > TapNotes {
				x.end(func(e Exchange) { t.seen(e, &x.asked, &x.answered) }, NotFollowed)
				return
			}
			x.sent = f.StreamEnded()
			t.open[id] = x
			t.noted += x.Size()
		case x == nil:
		case h == &t.client: // its trailers
			x.sent = true
		default:
			x.answer(f.Fields)
			if x.Status >= 200 {
				x.answered.head(f.Fields, t.keep)
			}
			if f.StreamEnded() {
				t.end(id, "")
			}
		}
	case *http2.DataFrame:
		t.part(h, id, f.Data(), f.StreamEnded())
	case *http2.PushPromiseFrame:
		t.forget() // its head is not decoded, which later ones build on
	case *http2.RSTStreamFrame:
		if x != nil {
			t.end(id, "reset: "+f.ErrCode.String())
		}
	}
}

func (m *Message) head(fields []hpack.HeaderField, keep int) {
	if keep == 0 {
		return
	}
	for _, f := range fields {
		m.Fields = append(m.Fields, Field{f.Name, f.Value})
	}
}

func (t *Tap) end(id uint32, failure string) {
	x := t.open[id]
	delete(t.open, id)
	t.noted -= x.Size()
	x.Took, x.Failure = time.Since(x.Begin), failure
	x.asked.Cut = x.asked.Cut || !x.sent
	t.seen(x.Exchange, &x.asked, &x.answered)
}
