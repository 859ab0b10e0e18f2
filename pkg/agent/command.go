package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/memory"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
	"github.com/kubectl-tele/kubectl-tele/pkg/version"
)

const usage = `usage: tele-agent serve [--control-port=N] [--capture=LISTEN:APP ...] [--idle-exit=DURATION]
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

func serve(ctx context.Context, fs *flag.FlagSet, args []string, getenv func(string) string, stderr io.Writer) error {
	cfg := Config{Pod: getenv(api.EnvPod), Version: version.Version}
	port := controlPort(fs)
	verbose := fs.Bool("v", false, "log every flow")
	fs.Func("capture", "LISTEN:APP, a port to listen on and the app's port it stands for; may be repeated", func(s string) error {
		c, err := api.ParseCapture(s)
		cfg.Captures = append(cfg.Captures, c)
		return err
	})
	fs.DurationVar(&cfg.IdleExit, "idle-exit", 0, "exit when no session was connected for this long; 0: never")
	fs.DurationVar(&cfg.DrainLimit, "drain-limit", 0, "longest wait for the app on SIGTERM (default 5m)")
	if err := parse(fs, args); err != nil {
		return err
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	cfg.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	cfg.ControlPort = *port
	cfg.Memory, cfg.MaxFlows = fit(debug.SetMemoryLimit(-1))
	var err error
	if cfg.Key, err = api.ParseKey(getenv(api.EnvKey)); err != nil {
		return fmt.Errorf("%s: %w", api.EnvKey, err)
	}
	if cfg.PodIPs, err = api.ParseAddrs(getenv(api.EnvPodIP)); err != nil {
		return fmt.Errorf("%s: %w", api.EnvPodIP, err)
	}
	a, err := New(cfg)
	if err != nil {
		return err
	}
	defer memory.GiveBack()()
	return a.Run(ctx)
}

// flowMemory is what a flow takes that does nothing, rounded up.
const flowMemory = 4 << 10

// fit divides the runtime's memory limit between buffers and flows. Without
// one, 0 stands for the defaults.
func fit(limit int64) (buffers int64, flows int) {
	if limit == math.MaxInt64 {
		return 0, 0
	}
	return max(limit/2, 4<<20), int(min(max(limit/2/flowMemory, 1000), 20_000))
}

const (
	// checkLimit bounds check; the probe that runs it allows a little more.
	checkLimit = 4 * time.Second
	checkEvery = 50 * time.Millisecond
)

// check succeeds when an agent with our key serves the control port; it
// listens there last. With --await-session it also waits until a session has
// taken a port, or the agent has been up for that long: clients that come
// before would keep their connections to the app.
func check(ctx context.Context, fs *flag.FlagSet, args []string, getenv func(string) string) error {
	port := controlPort(fs)
	await := fs.Duration("await-session", 0, "wait for a session until the agent has been up for this long")
	if err := parse(fs, args); err != nil {
		return err
	}
	key, err := api.ParseKey(getenv(api.EnvKey))
	if err != nil {
		return fmt.Errorf("%s: %w", api.EnvKey, err)
	}
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	t, err := tunnel.Dial(ctx, func(ctx context.Context) (net.Conn, error) { return dialControl(ctx, *port) }, tunnel.Config{Key: key})
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }()
	for *await > 0 {
		info, err := askInfo(ctx, t)
		if err != nil {
			return err
		}
		if info.UpSeconds >= await.Seconds() || slices.ContainsFunc(info.Captures, func(c api.CaptureInfo) bool { return c.Intercept != nil }) {
			return nil
		}
		select {
		case <-time.After(checkEvery):
		case <-ctx.Done():
			return errors.New("no session has come yet")
		}
	}
	return nil
}

// dialControl dials the agent that serves the control port on loopback.
func dialControl(ctx context.Context, port uint16) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
}

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
