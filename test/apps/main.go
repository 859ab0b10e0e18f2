package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "apps: %v\n", err)
		os.Exit(1)
	}
}

// identity is who a server says it is.
type identity struct {
	Pod, Version string
	Next         string // base URL of the next application of the chain
}

// settings are the flags of all modes; each mode reads those it needs.
type settings struct {
	identity
	addrs   list
	drain   time.Duration
	delay   time.Duration
	banner  bool
	method  string
	bytes   int64
	headers list
	tunnel  string
	load    loadOptions
	in      io.Reader
	out     io.Writer
	log     io.Writer
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

var modes = map[string]func(context.Context, settings, []string) error{
	"http":    runHTTP,
	"grpc":    runGRPC,
	"tcp":     runTCP,
	"slowfin": runSlowFin,
	"udp":     runUDP,
	"refuse":  runRefuse,
	"call":    runCall,
	"load":    runLoad,
	"dial":    runDial,
	"interop": runInterop,
	"raw":     runRaw,
	"play":    runPlay,

	"interop-call": runInteropCall,
	"sleep":        runSleep,
	"fill":         runFill,
	"true":         func(context.Context, settings, []string) error { return nil },
}

func run(ctx context.Context, args []string, in io.Reader, out, log io.Writer) error {
	if len(args) == 0 {
		return errors.New("no mode given")
	}
	if args[0] == "held" {
		return hold(ctx, args[1:], in, out, log)
	}
	mode, ok := modes[args[0]]
	if !ok {
		return fmt.Errorf("unknown mode %q", args[0])
	}
	s := settings{in: in, out: out, log: log}
	s.Pod, s.Version, s.Next = os.Getenv("POD_NAME"), os.Getenv("VERSION"), os.Getenv("NEXT")
	if s.Pod == "" {
		s.Pod, _ = os.Hostname() // a name for people; empty is fine
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(log)
	flags.Var(&s.addrs, "addr", "address, or absolute path of a UNIX socket, to listen on, may be repeated (default :8080)")
	flags.DurationVar(&s.drain, "drain", 15*time.Second, "how long to finish after SIGTERM")
	flags.DurationVar(&s.delay, "delay", 3*time.Second, "how long after the client's FIN slowfin answers")
	flags.BoolVar(&s.banner, "banner", false, "tcp: say the pod's name first")
	flags.StringVar(&s.method, "method", "", "call: the method (default GET, POST with -bytes)")
	flags.Int64Var(&s.bytes, "bytes", 0, "call: length of the body to send")
	flags.Var(&s.headers, "header", "call, load, interop-call: a header K:V, may be repeated")
	flags.Bool("0", true, "env: a NUL behind each variable, as always")
	flags.StringVar(&s.tunnel, "tunnel", "", "http: an address where it is also served over the flows of tunnels")
	s.load.register(flags)
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if len(s.addrs) == 0 {
		s.addrs = list{":8080"}
	}
	return mode(ctx, s, flags.Args())
}

// holdLimit is how long a held mode waits for whoever reads what it says.
const holdLimit = time.Minute

// hold runs a mode for one who loses what is said just before the end, as execs do: a
// NUL tells that all is said, and the end of standard input that it was read.
func hold(ctx context.Context, args []string, in io.Reader, out, log io.Writer) error {
	failure := run(ctx, args, in, out, log)
	if _, err := out.Write([]byte{0}); err != nil {
		return errors.Join(failure, err)
	}
	read := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, in)
		close(read)
	}()
	select {
	case <-read:
	case <-ctx.Done():
	case <-time.After(holdLimit):
	}
	return failure
}

func runRefuse(ctx context.Context, s settings, _ []string) error {
	fmt.Fprintln(s.log, "refuse: listening on nothing")
	<-ctx.Done()
	return nil
}

func runSleep(ctx context.Context, _ settings, args []string) error {
	if len(args) != 1 {
		return errors.New("sleep: want one duration")
	}
	if strings.Trim(args[0], "0123456789") == "" {
		args[0] += "s"
	}
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return fmt.Errorf("sleep: %w", err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return nil
}
