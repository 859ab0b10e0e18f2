package agent

import (
	"context"
	"errors"
	"flag"
	"io"
	"net"
)

// stdio carries standard input and output to the control port and back, for
// laptops that reach the agent by exec. It ends with the agent's side, with
// its input, or with ctx.
func stdio(ctx context.Context, fs *flag.FlagSet, args []string, stdin io.Reader, stdout io.Writer) error {
	port := controlPort(fs)
	if err := parse(fs, args); err != nil {
		return err
	}
	dialCtx, cancel := context.WithTimeout(ctx, checkLimit)
	conn, err := dialControl(dialCtx, *port)
	cancel()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	go func() {
		// Left behind in a read of its input, it ends with the process.
		_, _ = io.Copy(conn, stdin)
		_ = conn.Close()
	}()
	if _, err := io.Copy(stdout, conn); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
