package tunnel

import (
	"io"
	"syscall"
)

// readReady reads with a buffer at hand: Windows completes reads, it does not
// say when they are possible.
func readReady(_ syscall.RawConn, r io.Reader) func(size int) (*chunk, error) {
	return func(size int) (*chunk, error) { return readChunk(size, r.Read) }
}

// tryRaw: there is no such write here.
func tryRaw(syscall.Conn) TryWriter { return nil }
