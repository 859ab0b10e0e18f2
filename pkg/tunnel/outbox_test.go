package tunnel

import "testing"

// TestOutboxTakesOnlyWholeFrames: a peer that says it has a part of a frame
// would make us send again from within it.
func TestOutboxTakesOnlyWholeFrames(t *testing.T) {
	m := &meter{budget: NewBudget(1 << 20)}
	var o outbox
	ends := map[uint64]bool{0: true}
	for i := range 300 {
		body := i * 13 % 1000
		frame := append(appendHeader(nil, typeData, 0, body, 1), make([]byte, body)...)
		for len(frame) > 0 { // in pieces that end anywhere
			n := min(len(frame), 333)
			o.add(m, frame[:n])
			frame = frame[n:]
		}
		ends[o.end] = true
	}
	for offset := range o.end + 100 {
		if got := o.boundary(offset); got != ends[offset] {
			t.Fatalf("offset %d is a boundary: %v", offset, got)
		}
	}
	for offset := range o.end + 100 { // each ACK may drop chunks
		before := o.acked
		if got := o.ack(m, offset); got != ends[offset] {
			t.Fatalf("ACK of %d after %d: %v", offset, before, got)
		}
		if got := o.rewind(m, offset); got != ends[offset] {
			t.Fatalf("rewind to %d: %v", offset, got)
		}
		o.next = o.end
	}
	o.free(m)
	if held := m.held.Load(); held != 0 {
		t.Errorf("%d bytes held", held)
	}
}
