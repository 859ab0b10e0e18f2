package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// dialTimeout bounds the dial of `apps dial`.
const dialTimeout = 10 * time.Second

// runDial joins standard input and output to a TCP connection, so that through
// exec anybody has one from inside the cluster. The end of the input becomes a
// FIN; it ends with the peer's.
func runDial(ctx context.Context, s settings, args []string) error {
	if len(args) != 1 {
		return errors.New("dial: want one HOST:PORT")
	}
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", args[0])
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	go func() {
		// A write that fails shows in the reading side, too.
		_, _ = io.Copy(conn, s.in)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	if _, err := io.Copy(s.out, conn); err != nil {
		return fmt.Errorf("dial: read from %s: %w", args[0], err)
	}
	return nil
}
