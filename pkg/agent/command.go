package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strconv"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/version"
)

const usage = `usage: tele-agent serve [--control-port=N] [--capture=LISTEN:APP[/udp] ...] [--volume=HERE:PATH ...] [--idle-exit=DURATION]
       tele-agent check [--control-port=N] [--await-session=DURATION]
       tele-agent stdio [--control-port=N]
       tele-agent version`

// Command runs a command line without the program's name and returns the
// exit code. The end of ctx is a request to end.
func Command(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	err := command(ctx, args, getenv, stdin, stdout, stderr)
	var misuse *usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &misuse):
		_, _ = fmt.Fprintf(stderr, "tele-agent: %v\n%s\n", err, usage)
		return 2
	default:
		_, _ = fmt.Fprintf(stderr, "tele-agent: %v\n", err)
		return 1
	}
}

type usageError struct{ error }

func command(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return &usageError{errors.New("no command")}
	}
	fs := flag.NewFlagSet("tele-agent "+args[0], flag.ContinueOnError)
	fs.SetOutput(stderr)
	switch args[0] {
	case "serve":
		return serve(ctx, fs, args[1:], getenv, stderr)
	case "check":
		return check(ctx, fs, args[1:], getenv)
	case "stdio":
		return stdio(ctx, fs, args[1:], stdin, stdout)
	case "version":
		_, err := fmt.Fprintln(stdout, version.Get())
		return err
	default:
		return &usageError{fmt.Errorf("unknown command %q", args[0])}
	}
}

func parse(fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return &usageError{fmt.Errorf("unexpected argument %q", fs.Arg(0))}
	}
	return nil
}

func controlPort(fs *flag.FlagSet) *uint16 {
	port := uint16(api.DefaultControlPort)
	fs.Func("control-port", "port on loopback for laptops", func(s string) error {
		n, err := strconv.ParseUint(s, 10, 16)
		port = uint16(n)
		return err
	})
	return &port
}

// dialControl dials the agent that serves the control port on loopback.
func dialControl(ctx context.Context, port uint16) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
}
