package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// runUDP sends every datagram back as it came, from the address it came to; to one that
// asks who it is it adds that.
func runUDP(ctx context.Context, s settings, _ []string) error {
	var conns []net.PacketConn
	closeAll := func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	for _, addr := range s.addrs {
		conn, err := net.ListenPacket("udp", addr)
		if err != nil {
			closeAll()
			return fmt.Errorf("listen on %s: %w", addr, err)
		}
		fmt.Fprintf(s.log, "udp: listening on %s\n", conn.LocalAddr())
		conns = append(conns, conn)
	}
	stop := context.AfterFunc(ctx, closeAll)
	defer stop()
	var wg sync.WaitGroup
	failed := make([]error, len(conns))
	for i, conn := range conns {
		wg.Go(func() {
			failed[i] = echoDatagrams(conn, s.identity)
			closeAll()
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(failed...)
}

// echoDatagrams ends when conn is closed.
func echoDatagrams(conn net.PacketConn, id identity) error {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		_, _ = conn.WriteTo(whoAnswers(id, buf[:n]), from) // a datagram may be lost, also here
	}
}
