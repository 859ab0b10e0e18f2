package tunnel

import (
	"encoding/binary"
)

// partial is a datagram of which the first half has arrived.
type partial struct {
	flow uint32
	data []byte
}

// handle does what a frame asks for. An error ends the tunnel.
func (t *Tunnel) handle(l *lane, h header, b []byte) error {
	if l.partial.data != nil && h.typ.lasts() && (h.typ != typeDatagram || h.flow != l.partial.flow) {
		return malformed("%s between the parts of a datagram", h)
	}
	switch h.typ {
	case typeOpen:
		return t.onOpen(l, h.flow, b)
	case typePing:
		l.peerBusy.Store(h.flags&flagBusy != 0)
		l.w.sendPong(binary.BigEndian.Uint64(b))
		return nil
	case typePong:
		return l.onPong(binary.BigEndian.Uint64(b))
	case typeAck:
		return l.onAck(binary.BigEndian.Uint64(b))
	case typeRetire:
		return l.onRetire()
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
		return l.onDatagram(f, h, b)
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
	if t.peers(h.flow) && !t.opens.has(h.flow) || !t.peers(h.flow) && h.flow > t.lastID {
		return nil, malformed("%s, which was never opened", h)
	}
	return nil, nil
}

func (t *Tunnel) onOpen(l *lane, id uint32, b []byte) error {
	window, target, err := parseOpen(b)
	if err != nil {
		return err
	}
	f := newFlow(t, target)
	f.id, f.sendLimit, f.lane = id, uint64(window), l
	r := &Request{f: f}

	t.mu.Lock()
	if !t.peers(id) || id <= l.lastOpen || !t.opens.add(id, t.client) {
		defer t.mu.Unlock()
		return malformed("OPEN of flow %d after %d", id, max(l.lastOpen, t.opens.highest))
	}
	l.lastOpen = id
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
		l.w.send(nil, func(b []byte) []byte { return appendRefused(b, id, Failed, "too many flows") }, 0)
	}
	return nil
}

// onDatagram delivers a datagram, whole or once its second half is there; f
// is nil when the flow is over.
func (l *lane) onDatagram(f *Flow, h header, b []byte) error {
	if f != nil && !f.datagram {
		return malformed("%s, which has no datagrams", h)
	}
	if h.flags&flagMore != 0 {
		if l.partial.data != nil || len(b) != maxChunk {
			return malformed("%s as the first part of a datagram", h)
		}
		l.partial = partial{flow: h.flow, data: append(make([]byte, 0, maxDatagram), b...)}
		return nil
	}
	if l.partial.data != nil {
		if len(l.partial.data)+len(b) > maxDatagram {
			return malformed("datagram of %d bytes", len(l.partial.data)+len(b))
		}
		b = append(l.partial.data, b...)
		l.partial = partial{}
	}
	if f == nil {
		return nil
	}
	return f.onDatagram(b)
}
