package tunnel

import (
	"io"
	"syscall"
)

// readReady reads with a buffer at hand: Windows completes reads, it does not
// say when they are possible.
func readReady(_ syscall.RawConn, r io.Reader) func() (*chunk, error) {
	return func() (*chunk, error) { return readChunk(r) }
}

// tryRaw: there is no such write here.
func tryRaw(syscall.Conn) TryWriter { return nil }
