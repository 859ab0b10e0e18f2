package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// listenerFD is where "warden spawn -listen" leaves the listener.
const listenerFD = 3

// relay accepts connections on the inherited listener, in one network
// namespace, and carries each to an address dialed from its own.
func relay(args []string) error {
	flags := flag.NewFlagSet("relay", flag.ContinueOnError)
	to := flags.String("to", "", "`address` to dial")
	if err := flags.Parse(args); err != nil {
		return err
	}
	file := os.NewFile(listenerFD, "listener")
	listener, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("inherited listener: %w", err)
	}
	_ = file.Close()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	return carry(ctx, listener, *to)
}

// carry serves until ctx ends, and returns when every connection has ended.
func carry(ctx context.Context, listener net.Listener, to string) error {
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		client, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		connections.Go(func() {
			defer func() { _ = client.Close() }()
			dialer := net.Dialer{Timeout: 10 * time.Second}
			server, err := dialer.DialContext(ctx, "tcp", to)
			if err != nil {
				fmt.Fprintln(os.Stderr, "warden:", err)
				return
			}
			defer func() { _ = server.Close() }()
			_, _ = splice.Splice(ctx, client.(splice.Conn), server.(splice.Conn))
		})
	}
}
