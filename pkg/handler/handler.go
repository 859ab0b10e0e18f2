package handler

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// DialTimeout bounds connecting to a handler. It is shorter than the agent waits
// for an answer, so that the app answers in place of a handler that hangs.
const DialTimeout = 3 * time.Second

// Handler is the address, HOST:PORT, of what answers captured connections. A
// host may have several addresses; localhost is both 127.0.0.1 and ::1.
type Handler string

// Localhost returns the handler on a port of this machine.
func Localhost(port uint16) Handler {
	return Handler(net.JoinHostPort("localhost", strconv.Itoa(int(port))))
}

// Dial connects to the handler.
func (h Handler) Dial(ctx context.Context) (splice.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, DialTimeout, fmt.Errorf("no answer within %s", DialTimeout))
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", string(h))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", err, cause)
		}
		return nil, fmt.Errorf("reach the handler %s: %w", h, err)
	}
	return conn.(*net.TCPConn), nil
}

// Check returns nil if something answers at the handler's address.
func (h Handler) Check(ctx context.Context) error {
	conn, err := h.Dial(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}
