package tunnel

import (
	"fmt"
	"io"
)

// A queue of datagrams drops what is more than this.
const (
	maxPackets     = 256
	maxPacketBytes = 256 << 10
)

// packetQueue is a bounded FIFO of datagrams.
type packetQueue struct {
	list  [][]byte
	bytes int
}

// push copies p, or drops it.
func (q *packetQueue) push(m *meter, p []byte) {
	if len(q.list) >= maxPackets || q.bytes+len(p) > maxPacketBytes {
		return
	}
	q.list = append(q.list, append(make([]byte, 0, len(p)), p...))
	q.bytes += len(p)
	m.add(len(p))
}

func (q *packetQueue) pop(m *meter) []byte {
	p := q.list[0]
	q.list[0] = nil
	if q.list = q.list[1:]; len(q.list) == 0 {
		q.list = nil
	}
	q.bytes -= len(p)
	m.add(-len(p))
	return p
}

func (q *packetQueue) free(m *meter) {
	m.add(-q.bytes)
	*q = packetQueue{}
}

// packetSide is both directions of a flow of datagrams, guarded by Flow.mu.
type packetSide struct{ in, out packetQueue }

func (s *packetSide) free(m *meter) {
	s.in.free(m)
	s.out.free(m)
}

func (f *Flow) writePacket(p []byte) (int, error) {
	if len(p) > maxDatagram {
		return 0, fmt.Errorf("datagram of %d bytes, more than %d", len(p), maxDatagram)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.writeErrLocked(); err != nil {
		return 0, err
	}
	f.packets.out.push(&f.t.meter, p)
	f.queueLocked(f.packets.out.bytes <= smallTurn)
	return len(p), nil
}

func (f *Flow) readPacket(p []byte) (int, error) {
	packet, err := f.ReadPacket()
	return copy(p, packet), err
}

// ReadPacket is Read for a flow of datagrams without a buffer to wait with:
// the datagram is the caller's.
func (f *Flow) ReadPacket() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.closed:
			return nil, errFlowClosed
		case f.readBy.passed:
			return nil, errDeadline
		case len(f.packets.in.list) > 0:
			return f.packets.in.pop(&f.t.meter), nil
		case f.finReceived || !f.datagram:
			return nil, io.EOF
		case f.state == stateOver:
			return nil, f.err
		}
		f.canRead.Wait()
	}
}

// fillPacketLocked appends one datagram, in as many frames as it takes, or
// the FIN that ends the flow in both directions.
func (f *Flow) fillPacketLocked(m *meter, b []byte) (_ []byte, more bool) {
	out := &f.packets.out
	if len(out.list) > 0 {
		p := out.pop(m)
		for len(p) > maxChunk {
			b = appendHeader(b, typeDatagram, flagMore, maxChunk, f.id)
			b = append(b, p[:maxChunk]...)
			p = p[maxChunk:]
		}
		b = appendHeader(b, typeDatagram, 0, len(p), f.id)
		b = append(b, p...)
	}
	if len(out.list) > 0 {
		return b, true
	}
	if f.finQueued && !f.finSent {
		f.finSent, f.finReceived = true, true
		b = appendFin(b, f.id, 0)
		f.finishLocked()
	}
	return b, false
}

func (f *Flow) onDatagram(p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.state == stateOpening:
		return malformed("DATAGRAM for flow %d, which is not open", f.id)
	case f.finReceived && !f.gone:
		return malformed("DATAGRAM for flow %d after its FIN", f.id)
	case f.state == stateOpen && !f.closed:
		f.packets.in.push(&f.t.meter, p)
		f.canRead.Broadcast()
	}
	return nil
}
