package h2

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestTapNotes: streams that are not answered take a tap no more memory than it may
// have, and those beyond are told at once.
func TestTapNotes(t *testing.T) {
	told := map[string]int{}
	tap := NewTap(0, func(e Exchange, _, _ *Message) {
		if !strings.HasPrefix(e.Path, "/xx") {
			t.Errorf("told of %q", e.Path)
		}
		told[e.Failure]++
	})
	var out, block bytes.Buffer
	frames, heads := http2.NewFramer(&out, nil), hpack.NewEncoder(&block)
	const streams = 200
	for n := range streams {
		block.Reset()
		for _, f := range []string{":method GET", ":scheme http", ":authority a", ":path /" + strings.Repeat("x", 3000)} {
			name, value, _ := strings.Cut(f, " ")
			_ = heads.WriteField(hpack.HeaderField{Name: name, Value: value})
		}
		_ = frames.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*n + 1), EndStream: true, EndHeaders: true, BlockFragment: block.Bytes()})
	}
	tap.Client(out.Bytes())
	kept := len(tap.open)
	if tap.noted > TapNotes || kept == 0 || told[NotFollowed] != streams-kept {
		t.Errorf("%d bytes are noted of %d streams, and told is %v", tap.noted, kept, told)
	}
	tap.Close()
	if tap.noted != 0 || told["the connection ended"] != kept {
		t.Errorf("in the end %d bytes are noted, and told is %v", tap.noted, told)
	}
}

// TestTapForgets: after a push, which it does not follow, nothing more is told of, whoever
// says it and whatever comes with it.
func TestTapForgets(t *testing.T) {
	for _, who := range []func(*Tap, []byte){(*Tap).Client, (*Tap).Server} {
		tap := NewTap(10, func(e Exchange, _, _ *Message) { t.Errorf("told of %+v", e) })
		tap.Client([]byte("\x00\x00\x03\x01\x05\x00\x00\x00\x01\x82\x86\x84"))
		who(tap, []byte("\x00\x00\x05\x05\x04\x00\x00\x00\x01\x00\x00\x00\x02\x82\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
		tap.Server([]byte("\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88"))
		tap.Close()
	}
}
