package tunnel

import (
	"errors"
	"io"
	"net"
)

// WriteTo writes to w what arrives, until FIN, without a buffer of its own:
// an idle flow holds no memory for it. What w has not taken yet counts as
// unread, so a slow w holds up the peer.
func (f *Flow) WriteTo(w io.Writer) (int64, error) {
	if f.datagram {
		return 0, errors.New("flow of datagrams cannot be copied as a stream")
	}
	total := int64(0)
	for {
		c, err := f.takeChunk()
		switch {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
		}
		n, err := w.Write(c.buf[c.r:c.w])
		total += int64(n)
		f.consume(c)
		if err != nil {
			return total, err
		}
	}
}

// takeChunk waits for bytes as Read does.
func (f *Flow) takeChunk() (*chunk, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.waitReadLocked(); err != nil {
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

// ReadFrom writes what it reads from r, until io.EOF. From a TCP or Unix
// connection it reads without a buffer of its own, so that a pair of idle
// connections holds no memory.
func (f *Flow) ReadFrom(r io.Reader) (int64, error) {
	if f.datagram {
		return 0, errors.New("flow of datagrams cannot be copied as a stream")
	}
	read := readInto(r)
	total := int64(0)
	for {
		if err := f.waitWrite(); err != nil {
			return total, err
		}
		c, err := read()
		if c != nil {
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

// waitWrite waits for room in the queue.
func (f *Flow) waitWrite() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.waitRoomLocked()
	return err
}

// writeChunk queues a chunk, which it owns from now on.
func (f *Flow) writeChunk(c *chunk) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.writeErrLocked(); err != nil {
		c.free()
		return err
	}
	if c.w > smallChunk {
		f.send.attach(&f.t.meter, c)
	} else {
		f.send.append(&f.t.meter, c.buf[:c.w])
		c.free()
	}
	f.scheduleLocked()
	return nil
}

// readInto returns a function that reads from r once. It returns a chunk when
// there were bytes, and may return an error with it.
func readInto(r io.Reader) func() (*chunk, error) {
	switch r := r.(type) {
	case *net.TCPConn:
		if raw, err := r.SyscallConn(); err == nil {
			return readReady(raw, r)
		}
	case *net.UnixConn:
		if raw, err := r.SyscallConn(); err == nil {
			return readReady(raw, r)
		}
	}
	return func() (*chunk, error) { return readChunk(r) }
}

func readChunk(r io.Reader) (*chunk, error) {
	c := newChunk(largeChunk)
	n, err := r.Read(c.buf)
	if c.w = n; n <= 0 {
		c.free()
		return nil, err
	}
	return c, err
}
