package tunnel

import (
	"encoding/binary"
	"fmt"
	"time"
)

// partial is a datagram of which the first half has arrived.
type partial struct {
	flow uint32
	data []byte
}

// read handles frames until the tunnel is dead. It never waits for a flow.
func (t *Tunnel) read() {
	for {
		h, b, err := t.fr.next()
		if err == nil {
			err = t.handle(h, b)
		} else if !isProtocolError(err) {
			err = laneErr(err)
		}
		if err != nil {
			if isProtocolError(err) {
				err = fmt.Errorf("%w: %w", ErrClosed, err)
			}
			t.fail(err)
			return
		}
	}
}

// handle does what a frame asks for. An error ends the tunnel.
func (t *Tunnel) handle(h header, b []byte) error {
	if t.partial.data != nil && (h.typ != typeDatagram || h.flow != t.partial.flow) {
		return malformed("%s between the parts of a datagram", h)
	}
	switch h.typ {
	case typeOpen:
		return t.onOpen(h.flow, b)
	case typePing:
		t.w.sendPong(binary.BigEndian.Uint64(b))
		return nil
	case typePong:
		return t.onPong(binary.BigEndian.Uint64(b))
	case typeGoaway:
		code, message, err := parseGoaway(b)
		if err != nil {
			return err
		}
		return &goawayError{code.peerError(message)}
	case typeHello:
		return malformed("%s after the handshake", h)
	}
	f, err := t.lookup(h)
	if err != nil {
		return err
	}
	if f == nil && h.typ != typeDatagram {
		return nil // over on our side; the peer cannot know yet
	}
	switch h.typ {
	case typeData:
		if t.cfg.Budget.over(t.meter.held.Load()) {
			t.shed()
		}
		return f.onData(binary.BigEndian.Uint64(b), b[8:], h.flags&flagLimited != 0)
	case typeWindow:
		consumed, limit, err := parseWindow(b)
		if err != nil {
			return err
		}
		return f.onWindow(consumed, limit)
	case typeDatagram:
		return t.onDatagram(f, h, b)
	case typeFin:
		return f.onFin(binary.BigEndian.Uint64(b))
	case typeReset:
		return f.onReset()
	case typeOpened:
		window, err := parseOpened(b)
		if err != nil {
			return err
		}
		return f.onOpened(uint64(window))
	case typeRefused:
		reason, message, err := parseRefused(b)
		if err != nil {
			return err
		}
		return f.onRefused(reason, message)
	default:
		return malformed("unexpected %s", h)
	}
}

// lookup finds a frame's flow. nil: it is over. A number that was never
// opened is an error.
func (t *Tunnel) lookup(h header) (*Flow, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.flows[h.flow]; f != nil {
		return f, nil
	}
	last := t.lastID
	if t.peers(h.flow) {
		last = t.peerID
	}
	if h.flow > last {
		return nil, malformed("%s, which was never opened", h)
	}
	return nil, nil
}

func (t *Tunnel) onOpen(id uint32, b []byte) error {
	window, target, err := parseOpen(b)
	if err != nil {
		return err
	}
	f := newFlow(t, target)
	f.id, f.sendLimit = id, uint64(window)
	r := &Request{f: f}

	t.mu.Lock()
	if !t.peers(id) || id <= t.peerID {
		defer t.mu.Unlock()
		return malformed("OPEN of flow %d after %d", id, t.peerID)
	}
	t.peerID = id
	full := t.peerOpen >= t.cfg.MaxFlows
	if !full && t.err == nil {
		select {
		case t.backlog <- r:
			t.flows[id] = f
			t.peerOpen++
			t.opened++
		default:
			full = true
		}
	}
	t.mu.Unlock()
	if full {
		t.w.send(func(b []byte) []byte { return appendRefused(b, id, Failed, "too many flows") })
	}
	return nil
}

func (t *Tunnel) onPong(value uint64) error {
	if value <= t.lastPong || value > t.lastPing.Load() {
		return malformed("PONG without its PING")
	}
	t.lastPong = value
	sample := int64(max(time.Since(t.started)-time.Duration(value), 1))
	if old := t.rtt.Load(); old != 0 {
		sample = old + (sample-old)/4
	}
	t.rtt.Store(sample)
	return nil
}

// onDatagram delivers a datagram, whole or once its second half is there; f
// is nil when the flow is over.
func (t *Tunnel) onDatagram(f *Flow, h header, b []byte) error {
	if f != nil && !f.datagram {
		return malformed("%s, which has no datagrams", h)
	}
	if h.flags&flagMore != 0 {
		if t.partial.data != nil || len(b) != maxChunk {
			return malformed("%s as the first part of a datagram", h)
		}
		t.partial = partial{flow: h.flow, data: append(make([]byte, 0, maxDatagram), b...)}
		return nil
	}
	if t.partial.data != nil {
		if len(t.partial.data)+len(b) > maxDatagram {
			return malformed("datagram of %d bytes", len(t.partial.data)+len(b))
		}
		b = append(t.partial.data, b...)
		t.partial = partial{}
	}
	if f == nil {
		return nil
	}
	return f.onDatagram(b)
}
