package tunnel

import (
	"errors"
	"io"
	"syscall"
)

// TryWriter is what a connection is that can take bytes without waiting.
type TryWriter interface {
	// TryWrite takes as much of p as fits, perhaps nothing, and does not keep
	// p. It is not called concurrently with itself or with Write.
	TryWrite(p []byte) (int, error)
}

var errDatagrams = errors.New("flow of datagrams cannot be copied as a stream")

// WriteTo is CopyTo for those who have a goroutine to wait on.
func (f *Flow) WriteTo(w io.Writer) (n int64, err error) {
	ended := make(chan struct{})
	f.CopyTo(w, func(total int64, why error) {
		n, err = total, why
		close(ended)
	})
	<-ended
	return n, err
}

// CopyTo writes to w what arrives, until FIN, and then calls done, with the
// number of bytes written. An idle flow needs neither a buffer nor a goroutine
// for it. What w has not taken yet counts as unread, so a slow w holds up the
// peer. A TryWriter, or a TCP or Unix connection, gets what it can take from
// the goroutine that reads the lane.
func (f *Flow) CopyTo(w io.Writer, done func(n int64, err error)) {
	if f.datagram {
		go done(0, errDatagrams)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sink = &sink{to: w, try: tryWriter(w), done: done}
	if ready, _ := f.readyLocked(); ready {
		f.readableLocked()
	}
}

// sink is where a flow's bytes go. While it is the flow's, guarded by Flow.mu,
// it gets them as they arrive; otherwise its drain is running.
type sink struct {
	to    io.Writer
	try   TryWriter // nil: cannot without waiting
	done  func(int64, error)
	taken int64
	busy  bool  // TryWrite is under way, without the lock
	err   error // of TryWrite
}

// drain writes what the sink could not take without waiting, until nothing is
// left for now.
func (f *Flow) drain(s *sink) {
	for {
		c, err := f.takeChunk(s)
		switch {
		case errors.Is(err, io.EOF):
			s.done(s.taken, nil)
			return
		case err != nil:
			s.done(s.taken, err)
			return
		case c == nil:
			return
		}
		n, err := s.to.Write(c.buf[c.r:c.w])
		s.taken += int64(n)
		f.consume(c)
		if err != nil {
			s.done(s.taken, err)
			return
		}
	}
}

// takeChunk takes bytes that have arrived. Neither bytes nor an error: the
// sink is the flow's again.
func (f *Flow) takeChunk(s *sink) (*chunk, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	switch ready, err := f.readyLocked(); {
	case !ready:
		f.sink = s
		return nil, nil
	case err != nil:
		return nil, err
	}
	return f.recv.detach(), nil
}

// offerLocked gives the sink, if there is one, as much of p as it takes
// without waiting, and says how much that was. It lets go of the lock
// meanwhile.
func (f *Flow) offerLocked(p []byte) int {
	s := f.sink
	if s == nil || s.try == nil {
		return 0
	}
	s.busy = true
	f.mu.Unlock()
	n, err := s.try.TryWrite(p)
	f.mu.Lock()
	s.busy = false
	s.taken += int64(n)
	s.err = err
	if ready, _ := f.readyLocked(); ready || err != nil {
		f.readableLocked()
	}
	return n
}

// offering reports whether offerLocked is under way. As a flow changes lanes only
// when all of it has been handled, no other frame of it can come meanwhile.
func (f *Flow) offering() bool { return f.sink != nil && f.sink.busy }

// socket is what a TCP or Unix connection is, also as part of another type.
type socket interface {
	syscall.Conn
	CloseWrite() error
}

// tryWriter is w's way to take bytes without waiting; nil if it has none.
func tryWriter(w io.Writer) TryWriter {
	switch w := w.(type) {
	case TryWriter:
		return w
	case socket:
		return tryRaw(w)
	default:
		return nil
	}
}

// consume ends the use of a chunk that was taken.
func (f *Flow) consume(c *chunk) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.readClosed {
		f.consumed += uint64(c.w - c.r)
		f.creditLocked(false)
	}
	f.t.meter.add(-len(c.buf))
	c.free()
}

// ReadFrom writes what it reads from r, until io.EOF. From a TCP or Unix
// connection it reads without a buffer of its own, so that an idle pair holds
// no memory.
func (f *Flow) ReadFrom(r io.Reader) (int64, error) {
	if f.datagram {
		return 0, errDatagrams
	}
	s := &source{f: f, read: readInto(r), size: largeChunk}
	for {
		if ended, err := s.copy(); ended {
			return s.taken, err
		}
	}
}

// CopyFrom writes what it reads by try, until io.EOF, and then calls done,
// with the number of bytes read. While there is nothing to read it needs
// neither a buffer nor a goroutine: a try that returns 0 and no error calls
// ready when there may be something, once, in its own time.
func (f *Flow) CopyFrom(try func(p []byte, ready func()) (int, error), done func(n int64, err error)) {
	if f.datagram {
		go done(0, errDatagrams)
		return
	}
	s := &source{f: f, size: largeChunk}
	run := func() {
		if ended, err := s.copy(); ended {
			done(s.taken, err)
		}
	}
	ready := func() { go run() }
	s.read = func(size int) (*chunk, error) {
		return readChunk(size, func(p []byte) (int, error) { return try(p, ready) })
	}
	ready()
}

// source is what a flow is being fed from.
type source struct {
	f *Flow
	// read reads up to size bytes; it may return some along with an error.
	read  func(size int) (*chunk, error)
	size  int
	taken int64
}

// copy copies until there is an error, or io.EOF, which is none, and it has
// ended; or until there is nothing to read for now.
func (s *source) copy() (ended bool, err error) {
	for {
		if err := s.f.waitWrite(); err != nil {
			return true, err
		}
		c, err := s.read(s.size)
		if c == nil && err == nil {
			return false, nil // and somebody else may be copying already
		}
		if c != nil {
			s.size = s.f.nextSize(c)
			s.taken += int64(c.w)
			if err := s.f.writeChunk(c); err != nil {
				return true, err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return true, nil
		case err != nil:
			return true, err
		}
	}
}

// nextSize is how much is worth reading after c: more while reads are full and
// memory is no concern.
func (f *Flow) nextSize(c *chunk) int {
	if c.w == len(c.buf) && !f.t.meter.budget.tight() {
		return bulkChunk
	}
	return largeChunk
}

// waitWrite waits for room in the queue.
func (f *Flow) waitWrite() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.waitRoomLocked()
	return err
}

// writeChunk queues a chunk, which it owns from now on.
func (f *Flow) writeChunk(c *chunk) error {
	x, err := f.queueChunk(c)
	x.flush()
	return err
}

func (f *Flow) queueChunk(c *chunk) (*wire, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.writeErrLocked(); err != nil {
		c.free()
		return nil, err
	}
	if c.w > smallChunk {
		f.send.attach(&f.t.meter, c)
	} else {
		f.send.append(&f.t.meter, c.buf[:c.w])
		c.free()
	}
	return f.scheduleLocked(), nil
}

// readInto returns a function that reads up to size bytes from r once. It
// returns a chunk when there were bytes, and may return an error with it.
func readInto(r io.Reader) func(size int) (*chunk, error) {
	if s, ok := r.(socket); ok {
		if raw, err := s.SyscallConn(); err == nil {
			return readReady(raw, r)
		}
	}
	return func(size int) (*chunk, error) { return readChunk(size, r.Read) }
}

func readChunk(size int, read func([]byte) (int, error)) (*chunk, error) {
	c := newChunk(size)
	n, err := read(c.buf)
	if c.w = n; n <= 0 {
		c.free()
		return nil, err
	}
	return c, err
}
