package tunnel

import (
	"sync"
	"sync/atomic"
)

// Sizes of chunk: most flows most of the time hold a small message or nothing,
// the others are in bulk, and in full bulk what is read makes a whole write,
// headers included.
const (
	smallChunk = 2 << 10
	largeChunk = maxChunk
	bulkChunk  = writeFull - writeFull/maxChunk*dataHeader
)

var (
	smallChunks = chunkPool(smallChunk)
	largeChunks = chunkPool(largeChunk)
	bulkChunks  = chunkPool(bulkChunk)
)

func chunkPool(size int) *sync.Pool {
	return &sync.Pool{New: func() any { return &chunk{buf: make([]byte, size)} }}
}

// poolOf is where chunks of n bytes or a little more come from.
func poolOf(n int) *sync.Pool {
	switch {
	case n <= smallChunk:
		return smallChunks
	case n <= largeChunk:
		return largeChunks
	default:
		return bulkChunks
	}
}

// chunk holds the bytes buf[r:w].
type chunk struct {
	next *chunk
	r, w int
	buf  []byte
}

// newChunk returns a chunk for n bytes, or for as many as a chunk can hold.
func newChunk(n int) *chunk { return poolOf(n).Get().(*chunk) }

func (c *chunk) free() {
	c.next, c.r, c.w = nil, 0, 0
	poolOf(len(c.buf)).Put(c)
}

// meter counts the capacity held by a tunnel's queues, in its budget too.
type meter struct {
	held   atomic.Int64
	budget *Budget
}

func (m *meter) add(n int) {
	m.held.Add(int64(n))
	m.budget.held.Add(int64(n))
}

// queue is a FIFO of bytes in pooled chunks. Not safe for concurrent use; an
// empty queue holds no memory.
type queue struct {
	head, tail *chunk
	n          int // bytes queued
	held       int // capacity of the chunks
}

func (q *queue) append(m *meter, p []byte) {
	q.n += len(p)
	for len(p) > 0 {
		c := q.tail
		if c == nil || c.w == len(c.buf) {
			c = newChunk(min(len(p), largeChunk))
			q.attach(m, c)
		}
		n := copy(c.buf[c.w:], p)
		c.w += n
		p = p[n:]
	}
}

// attach appends a chunk that is not empty, without copying.
func (q *queue) attach(m *meter, c *chunk) {
	q.n += c.w - c.r
	q.held += len(c.buf)
	m.add(len(c.buf))
	if q.tail == nil {
		q.head = c
	} else {
		q.tail.next = c
	}
	q.tail = c
}

// detach takes the first chunk, which there is, out of the queue. It stays in
// the meter.
func (q *queue) detach() *chunk {
	c := q.head
	if q.head = c.next; q.head == nil {
		q.tail = nil
	}
	c.next = nil
	q.n -= c.w - c.r
	q.held -= len(c.buf)
	return c
}

// read moves bytes into p and returns their number.
func (q *queue) read(m *meter, p []byte) int {
	total := 0
	for q.head != nil && total < len(p) {
		c := q.head
		n := copy(p[total:], c.buf[c.r:c.w])
		total += n
		q.advance(m, n)
	}
	return total
}

// moveTo appends the first n bytes, which there are, to dst.
func (q *queue) moveTo(m *meter, dst []byte, n int) []byte {
	for n > 0 {
		c := q.head
		k := min(n, c.w-c.r)
		dst = append(dst, c.buf[c.r:c.r+k]...)
		n -= k
		q.advance(m, k)
	}
	return dst
}

// advance drops the first n bytes, all of them in the first chunk.
func (q *queue) advance(m *meter, n int) {
	c := q.head
	c.r += n
	q.n -= n
	if c.r < c.w {
		return
	}
	q.head = c.next
	if q.head == nil {
		q.tail = nil
	}
	q.held -= len(c.buf)
	m.add(-len(c.buf))
	c.free()
}

// truncate keeps the first n bytes.
func (q *queue) truncate(m *meter, n int) {
	if n >= q.n {
		return
	}
	q.n = n
	link := &q.head
	q.tail = nil
	for *link != nil && n > 0 {
		c := *link
		if k := c.w - c.r; k > n {
			c.w = c.r + n
		}
		n -= c.w - c.r
		q.tail = c
		link = &c.next
	}
	c := *link
	*link = nil
	for c != nil {
		next := c.next
		q.held -= len(c.buf)
		m.add(-len(c.buf))
		c.free()
		c = next
	}
}

// free drops everything.
func (q *queue) free(m *meter) { q.truncate(m, 0) }
