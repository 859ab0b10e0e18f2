//go:build !linux

package agent

import "net"

// poller does nothing: agents run on Linux. Elsewhere, for the tests, a
// goroutine waits for each connection.
type poller struct{}

func newPoller() (*poller, error) { return &poller{}, nil }

func (p *poller) close()           {}
func (p *poller) remove(c *polled) {}

func (p *poller) add(conn *net.TCPConn) (*polled, error) {
	return &polled{TCPConn: conn, poller: p}, nil
}

// TryRead implements splice.Polled, but waits.
func (c *polled) TryRead(b []byte, _ func()) (int, error) { return c.Read(b) }
