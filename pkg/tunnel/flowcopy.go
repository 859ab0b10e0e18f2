package tunnel

import (
	"errors"
	"io"
	"net"
)

// TryWriter is what a connection is that can take bytes without waiting.
type TryWriter interface {
	// TryWrite takes as much of p as fits, perhaps nothing, and does not keep
	// p. It is not called concurrently with itself or with Write.
	TryWrite(p []byte) (int, error)
}

// WriteTo writes to w what arrives, until FIN, without a buffer of its own:
// an idle flow holds no memory for it. What w has not taken yet counts as
// unread, so a slow w holds up the peer. A TryWriter, or a TCP or Unix
// connection, gets what it can take from the goroutine that reads the lane.
func (f *Flow) WriteTo(w io.Writer) (int64, error) {
	if f.datagram {
		return 0, errors.New("flow of datagrams cannot be copied as a stream")
	}
	sink := &sink{w: tryWriter(w)}
	total := int64(0)
	for {
		c, err := f.takeChunk(sink)
		switch {
		case errors.Is(err, io.EOF):
			return total + sink.taken, nil
		case err != nil:
			return total + sink.taken, err
		}
		n, err := w.Write(c.buf[c.r:c.w])
		total += int64(n)
		f.consume(c)
		if err != nil {
			return total + sink.taken, err
		}
	}
}

// sink is where a flow's bytes go while its WriteTo waits. Guarded by Flow.mu,
// but for w.
type sink struct {
	w      TryWriter // nil: cannot without waiting
	taken  int64
	busy   bool  // TryWrite is under way
	wanted bool  // somebody waits until it is not
	err    error // of TryWrite
}

// offerLocked gives the sink, if there is one that waits, as much of p as it
// takes, and says how much that was. It lets go of the lock meanwhile.
func (f *Flow) offerLocked(p []byte) int {
	s := f.sink
	if s == nil || s.err != nil || f.recv.n > 0 {
		return 0
	}
	s.busy = true
	f.mu.Unlock()
	n, err := s.w.TryWrite(p)
	f.mu.Lock()
	s.busy = false
	s.taken += int64(n)
	s.err = err
	if s.wanted || err != nil {
		s.wanted = false
		f.canRead.Broadcast()
	}
	return n
}

// tryWriter is w's way to take bytes without waiting; nil if it has none.
func tryWriter(w io.Writer) TryWriter {
	switch w := w.(type) {
	case TryWriter:
		return w
	case *net.TCPConn:
		return tryRaw(w)
	case *net.UnixConn:
		return tryRaw(w)
	default:
		return nil
	}
}

// takeChunk waits for bytes as Read does, for those that s does not take.
func (f *Flow) takeChunk(s *sink) (*chunk, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.recv.n == 0 && s.w != nil {
		f.sink = s
	}
	err := f.waitReadLocked(s)
	f.sink = nil
	if err != nil {
		return nil, err
	}
	return f.recv.detach(), nil
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

// ReadWaiter is what a connection is that can wait without a buffer.
type ReadWaiter interface {
	io.Reader
	// WaitRead returns when Read would return at once, or an error as Read does.
	WaitRead() error
}

// ReadFrom writes what it reads from r, until io.EOF. From a ReadWaiter, and a
// TCP or Unix connection, it reads without a buffer of its own, so that a pair
// of idle connections holds no memory.
func (f *Flow) ReadFrom(r io.Reader) (int64, error) {
	if f.datagram {
		return 0, errors.New("flow of datagrams cannot be copied as a stream")
	}
	read := readInto(r)
	total := int64(0)
	size := largeChunk
	for {
		if err := f.waitWrite(); err != nil {
			return total, err
		}
		c, err := read(size)
		if c != nil {
			size = f.nextSize(c)
			total += int64(c.w)
			if err := f.writeChunk(c); err != nil {
				return total, err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
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
	switch r := r.(type) {
	case ReadWaiter:
		return func(size int) (*chunk, error) {
			if err := r.WaitRead(); err != nil {
				return nil, err
			}
			return readChunk(r, size)
		}
	case *net.TCPConn:
		if raw, err := r.SyscallConn(); err == nil {
			return readReady(raw, r)
		}
	case *net.UnixConn:
		if raw, err := r.SyscallConn(); err == nil {
			return readReady(raw, r)
		}
	}
	return func(size int) (*chunk, error) { return readChunk(r, size) }
}

func readChunk(r io.Reader, size int) (*chunk, error) {
	c := newChunk(size)
	n, err := r.Read(c.buf)
	if c.w = n; n <= 0 {
		c.free()
		return nil, err
	}
	return c, err
}
