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
func readReady(raw syscall.RawConn, _ io.Reader) func() (*chunk, error) {
	return func() (*chunk, error) {
		var (
			c   *chunk
			n   int
			err error
		)
		closed := raw.Read(func(fd uintptr) (done bool) {
			c = newChunk(largeChunk)
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
