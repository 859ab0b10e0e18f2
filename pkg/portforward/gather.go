package portforward

import (
	"bufio"
	"net"
	"sync"
)

// gatherer is the connection below TLS. crypto/tls writes each record of
// 16 KiB by itself, and reads two at a time: many small packets, each of which
// wakes the API server. Between hold and flush what is written is kept, and
// then written at once; what is there to read is read at once.
//
// Safe for concurrent use, as TLS may answer while it reads.
type gatherer struct {
	net.Conn
	r *bufio.Reader

	mu   sync.Mutex
	held *[]byte // from gathered; nil: writes pass
}

// gatherRead is what is read at once.
const gatherRead = 128 << 10

// recordExtra is more than TLS adds to a record: 5 bytes of header, at most 256
// around the contents (RFC 8446, 5.2), 2,048 before TLS 1.3.
const recordExtra = 5 + 2048

// gathered holds buffers of a full frame and what TLS adds to it.
var gathered = sync.Pool{New: func() any {
	b := make([]byte, 0, maxPayload+maxPayload/16)
	return &b
}}

func newGatherer(conn net.Conn) *gatherer {
	return &gatherer{Conn: conn, r: bufio.NewReaderSize(conn, gatherRead)}
}

func (g *gatherer) Read(p []byte) (int, error) { return g.r.Read(p) }

// ready reports whether a whole record has arrived. Not safe for use while
// reading; false for nil.
func (g *gatherer) ready() bool { return g != nil && g.r.Buffered() >= recordLen+recordExtra }

func (g *gatherer) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		return g.Conn.Write(p)
	}
	*g.held = append(*g.held, p...)
	return len(p), nil
}

func (g *gatherer) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		g.held = gathered.Get().(*[]byte)
	}
}

// flush writes what was held. After an error the connection is done for: part
// of what Write took may be missing.
func (g *gatherer) flush() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		return nil
	}
	_, err := g.Conn.Write(*g.held)
	*g.held = (*g.held)[:0]
	gathered.Put(g.held)
	g.held = nil
	return err
}
