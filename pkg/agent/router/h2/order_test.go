//go:build linux

package h2

import (
	"testing"

	"golang.org/x/net/http2/hpack"
)

// TestNewStreamsKeepTheirOrder: a stream that could go at once does not overtake one that
// was held before, for a peer takes no lower number after a higher one.
func TestNewStreamsKeepTheirOrder(t *testing.T) {
	a, b := pair(t)
	defer func() { _, _ = a.Close(), b.Close() }()
	r := newRelay(Config{Client: a, App: b, Held: NewBudget(1 << 20)})
	p := newPeer(r, b)
	p.side = true
	head := func(id uint32) {
		t.Helper()
		r.streams[id] = &stream{id: id, to: p, window: p.initial}
		if !p.send(frame{stream: id, fields: []hpack.HeaderField{{Name: ":method", Value: "GET"}}, opens: true}) {
			t.Fatalf("stream %d is not held", id)
		}
	}
	p.out = make([]byte, maxOut+1)
	head(1) // held: too much is to be written
	p.out = nil
	head(3)
	if r.streams[3].opened && !r.streams[1].opened {
		t.Error("a new stream overtakes another")
	}
	p.drain()
	if !r.streams[1].opened || !r.streams[3].opened || p.heads != 0 {
		t.Errorf("not all are sent: %d held", len(p.held))
	}
	head(5)
	if !r.streams[5].opened {
		t.Error("held for nobody")
	}
}
