package tunnel

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// TestNextRun: frames of one flow that follow each other are joined, and
// nothing else is.
func TestNextRun(t *testing.T) {
	var in []byte
	data := func(flow uint32, offset uint64, flags uint8, p string) {
		in = appendHeader(in, typeData, flags, 8+len(p), flow)
		in = append(binary.BigEndian.AppendUint64(in, offset), p...)
	}
	data(2, 100, 0, "one ")
	data(2, 104, flagLimited, "two ")
	data(2, 108, 0, "three")
	data(4, 0, 0, "another flow")
	data(2, 113, 0, "four")
	data(2, 999, 0, "a gap")
	in = appendFin(in, 2, 1004)
	data(2, 1004, 0, "half a frame")
	fr := newFrameReader(bytes.NewReader(in[:len(in)-4]))
	fr.grow()
	total := 0
	for _, want := range []struct {
		typ    frameType
		flow   uint32
		flags  uint8
		offset uint64
		p      string
	}{
		{typeData, 2, flagLimited, 100, "one two three"},
		{typeData, 4, 0, 0, "another flow"},
		{typeData, 2, 0, 113, "four"},
		{typeData, 2, 0, 999, "a gap"},
		{typeFin, 2, 0, 1004, ""},
	} {
		h, b, size, err := fr.nextRun()
		if err != nil {
			t.Fatal(err)
		}
		if total += size; h.typ != want.typ || h.flow != want.flow || h.flags != want.flags ||
			binary.BigEndian.Uint64(b) != want.offset || string(b[8:]) != want.p {
			t.Errorf("%s %q with flags %d, want %+v", h, b, h.flags, want)
		}
	}
	if want := len(in) - dataHeader - len("half a frame"); total != want {
		t.Errorf("%d bytes on the lane, want %d", total, want)
	}
	if h, _, _, err := fr.nextRun(); err == nil {
		t.Errorf("%s out of half a frame", h)
	}
}
