package tunnel

// outbox keeps what a lane has sent until the peer has it, to send it again
// over the lane's next connection. Offsets count the bytes of a lane's
// lasting frames from its beginning. Guarded by writer.mu.
type outbox struct {
	kept  queue  // bytes [acked, end)
	acked uint64 // the peer has everything before
	next  uint64 // what the connection is sent next; below end after a break
	end   uint64
	at    cursor // of next, while that is below end
}

// cursor is a place in a queue.
type cursor struct {
	c *chunk
	i int // in c.buf
}

// inFlight is how much the peer is not known to have.
func (o *outbox) inFlight() int { return int(o.end - o.acked) }

// add appends what is being sent now; nothing may wait to be sent again.
func (o *outbox) add(m *meter, b []byte) {
	o.kept.append(m, b)
	o.end += uint64(len(b))
	o.next = o.end
}

// ack drops what the peer has, and reports whether it can have that.
func (o *outbox) ack(m *meter, received uint64) bool {
	if received > o.next || !o.boundary(received) {
		return false
	}
	o.drop(m, received)
	return true
}

// rewind begins a new connection to a peer that has received so much.
func (o *outbox) rewind(m *meter, received uint64) bool {
	if !o.boundary(received) {
		return false
	}
	o.drop(m, received)
	o.next = received
	if o.next < o.end {
		o.at = cursor{o.kept.head, o.kept.head.r}
	}
	return true
}

// boundary reports whether a frame that is kept begins or ends at an offset.
func (o *outbox) boundary(offset uint64) bool {
	at, c := o.acked, cursor{}
	if at < o.end {
		c = cursor{o.kept.head, o.kept.head.r}
	}
	for at < min(offset, o.end) {
		size := c.frameSize()
		c = c.skip(size)
		at += uint64(size)
	}
	return at == offset
}

func (o *outbox) drop(m *meter, upTo uint64) {
	for o.acked < upTo {
		c := o.kept.head
		n := min(uint64(c.w-c.r), upTo-o.acked)
		o.kept.advance(m, int(n))
		o.acked += n
	}
}

// again appends frames that have to be sent again, whole ones, since others
// may be put between them: at least one, and no more than fit in n bytes.
func (o *outbox) again(b []byte, n int) []byte {
	for begin := len(b); o.next < o.end; {
		size := o.at.frameSize()
		if len(b) > begin && len(b)-begin+size > n {
			break
		}
		b, o.at = o.at.copy(b, size)
		o.next += uint64(size)
	}
	return b
}

// frameSize is the length of the frame that begins here, with its header.
func (p cursor) frameSize() int {
	high := p.skip(2)
	low := high.skip(1)
	return headerSize + int(high.c.buf[high.i])<<8 + int(low.c.buf[low.i])
}

// copy appends n bytes, which there are, and says where they end.
func (p cursor) copy(b []byte, n int) ([]byte, cursor) {
	for n > 0 {
		take := min(p.c.w-p.i, n)
		b = append(b, p.c.buf[p.i:p.i+take]...)
		p, n = p.skip(take), n-take
	}
	return b, p
}

// skip is the place n bytes on, which there are: never at the end of a chunk
// that may be gone when there is more.
func (p cursor) skip(n int) cursor {
	for n > 0 {
		take := min(p.c.w-p.i, n)
		n -= take
		if p.i += take; p.i < p.c.w {
			break
		}
		if p.c = p.c.next; p.c != nil {
			p.i = p.c.r
		}
	}
	return p
}

func (o *outbox) free(m *meter) {
	o.kept.free(m)
	o.acked, o.next = o.end, o.end
}
