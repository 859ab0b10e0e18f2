package agent

import (
	"net"
	"sync/atomic"
	"syscall"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// polled is a TCP connection that is read without a goroutine that waits: the
// poller tells when there is something. It implements splice.Polled.
type polled struct {
	*net.TCPConn
	poller    *poller
	id        uint64          // at the poller
	raw       syscall.RawConn // of TCPConn; nil where the poller does nothing
	finished  atomic.Bool     // CloseWrite was called
	readiness splice.Readiness
}

// CloseWrite implements splice.Conn.
func (c *polled) CloseWrite() error {
	c.finished.Store(true)
	return c.TCPConn.CloseWrite()
}

// Close implements net.Conn, and ends a TryRead that waits.
func (c *polled) Close() error {
	c.poller.remove(c)
	defer c.readiness.Set()
	return c.TCPConn.Close()
}
