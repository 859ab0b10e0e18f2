//go:build unix

package tunnel

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// readReady reads from a non-blocking connection and takes a chunk only when
// there is something to read, not while it waits.
func readReady(raw syscall.RawConn, _ io.Reader) func(size int) (*chunk, error) {
	return func(size int) (*chunk, error) {
		var (
			c   *chunk
			n   int
			err error
		)
		closed := raw.Read(func(fd uintptr) (done bool) {
			c = newChunk(size)
			for {
				n, err = syscall.Read(int(fd), c.buf)
				if !errors.Is(err, syscall.EINTR) {
					break
				}
			}
			if errors.Is(err, syscall.EAGAIN) {
				c.free()
				c = nil
				return false
			}
			return true
		})
		switch {
		case closed != nil: // or its deadline passed; then c is nil
			return nil, closed
		case err != nil:
			c.free()
			return nil, os.NewSyscallError("read", err)
		case n == 0:
			c.free()
			return nil, io.EOF
		}
		c.w = n
		return c, nil
	}
}

// rawWriter writes to a non-blocking connection.
type rawWriter struct {
	raw   syscall.RawConn
	p     []byte
	n     int
	err   error
	write func(fd uintptr) bool // writeOnce, made once
}

// tryRaw is nil for a connection that is closed.
func tryRaw(c syscall.Conn) TryWriter {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	w := &rawWriter{raw: raw}
	w.write = w.writeOnce
	return w
}

func (w *rawWriter) writeOnce(fd uintptr) bool {
	for {
		w.n, w.err = syscall.Write(int(fd), w.p)
		if !errors.Is(w.err, syscall.EINTR) {
			return true
		}
	}
}

// TryWrite implements TryWriter.
func (w *rawWriter) TryWrite(p []byte) (int, error) {
	w.p, w.n, w.err = p, 0, nil
	closed := w.raw.Write(w.write)
	w.p = nil
	switch {
	case closed != nil: // or its deadline passed
		return 0, closed
	case errors.Is(w.err, syscall.EAGAIN):
		return 0, nil
	case w.err != nil:
		return 0, os.NewSyscallError("write", w.err)
	}
	return w.n, nil
}
