package netsim

import (
	"sync"
	"time"
)

const (
	// chunkSize is the most that one read takes.
	chunkSize = 256 << 10
	// minRead is the least room that a read is given; below, a new chunk is begun.
	minRead = 16 << 10
	// grain is within which time bytes share a mark, and so arrive together
	// with the last of them: late, never early.
	grain = 250 * time.Microsecond
)

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// chunk holds bytes [r, w) of a queue.
type chunk struct {
	next *chunk
	r, w int
	data [chunkSize]byte
}

// mark says when the bytes up to a position of the stream are due.
type mark struct {
	end        int64
	first, due time.Time // of its first and its last byte
}

// queue is bytes under way, in order. It is not safe for concurrent use, apart
// from this: while one goroutine fills what space returned, and until it calls
// commit, another may use all the other methods.
type queue struct {
	head, tail *chunk // both nil, or neither
	marks      []mark // those not yet due
	in         int64  // position of the stream after the last byte that came
	ready      int64  // and after the last that is due
	out        int64  // and after the last that has left
	last       time.Time
}

func (q *queue) size() int64 { return q.in - q.out }

// space is room for the next bytes, at least minRead of it; valid until commit,
// close or the next space.
func (q *queue) space() []byte {
	switch t := q.tail; {
	case t == nil:
		q.tail = take()
		q.head = q.tail
	case t.r == t.w:
		t.r, t.w = 0, 0
	case chunkSize-t.w < minRead:
		t.next = take()
		q.tail = t.next
	}
	return q.tail.data[q.tail.w:]
}

func take() *chunk {
	c := chunks.Get().(*chunk)
	c.next, c.r, c.w = nil, 0, 0
	return c
}

// commit makes the first n bytes of space part of the stream, due then, or
// when the bytes before them are if that is later.
func (q *queue) commit(n int, due time.Time) {
	q.tail.w += n
	q.in += int64(n)
	if due.Before(q.last) {
		due = q.last
	}
	q.last = due
	if n := len(q.marks); n > 0 && due.Sub(q.marks[n-1].first) < grain {
		q.marks[n-1].end, q.marks[n-1].due = q.in, due
		return
	}
	q.marks = append(q.marks, mark{q.in, due, due})
}

// due returns the next bytes that are due, as many as are in one piece; none
// with the time at which some will be, which is zero when the queue is empty.
func (q *queue) due(now time.Time) ([]byte, time.Time) {
	n := 0
	for n < len(q.marks) && !q.marks[n].due.After(now) {
		q.ready = q.marks[n].end
		n++
	}
	if n > 0 { // few are left where many are due
		q.marks = q.marks[:copy(q.marks, q.marks[n:])]
	}
	if want := q.ready - q.out; want > 0 {
		for q.head.r == q.head.w {
			q.drop()
		}
		c := q.head
		return c.data[c.r:min(int64(c.w), int64(c.r)+want)], time.Time{}
	}
	if len(q.marks) > 0 {
		return nil, q.marks[0].due
	}
	return nil, time.Time{}
}

// release drops the first n of the bytes that due returned.
func (q *queue) release(n int) {
	q.head.r += n
	q.out += int64(n)
	if q.head.r == q.head.w && q.head != q.tail {
		q.drop()
	}
}

// drop gives the first chunk back, which is not the last.
func (q *queue) drop() {
	c := q.head
	q.head = c.next
	chunks.Put(c)
}

// discard forgets all bytes under way; what space returned stays valid.
func (q *queue) discard() {
	for q.head != q.tail {
		q.drop()
	}
	if q.head != nil {
		q.head.r = q.head.w
	}
	q.marks, q.ready, q.out = nil, q.in, q.in
}

// close gives all memory back. Nobody may be using what space returned.
func (q *queue) close() {
	q.discard()
	if q.head != nil {
		chunks.Put(q.head)
	}
	q.head, q.tail = nil, nil
}
