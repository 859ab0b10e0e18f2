//go:build linux

// Command bench compares the ways to reach one pod, in the same run, on the
// embedded cluster: kubectl tele, `kubectl port-forward`, and the parts that
// kubectl tele is made of. Ratios say more than the figures themselves, which
// are about the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// benchLimit covers building Kubernetes once on a slow machine.
const benchLimit = 90 * time.Minute

type settings struct {
	bytes    int64
	rounds   int
	requests time.Duration
	rtts     []int
	rows     *regexp.Regexp
	ways     *regexp.Regexp
	ends     bool
	version  string

	asJSON, docs, from string
}

func main() {
	var s settings
	flag.Int64Var(&s.bytes, "bytes", 512<<20, "size of a bulk transfer; a quarter of it where there is a round trip")
	flag.IntVar(&s.rounds, "rounds", 3, "how often each row is measured; the median counts")
	flag.DurationVar(&s.requests, "for", 3*time.Second, "how long requests are counted")
	rtts := flag.String("rtt", "0,1,20,80,150", "round trips to add between laptop and API server, in ms")
	rows := flag.String("rows", "", "measure only rows whose name matches this expression")
	ways := flag.String("ways", "", "measure only ways whose name matches this expression")
	flag.BoolVar(&s.ends, "ends", true, "measure memory, CPU and deadlines too")
	flag.StringVar(&s.version, "version", "development", "what the results call this version")
	flag.StringVar(&s.asJSON, "json", "", "write the results to this file as JSON")
	flag.StringVar(&s.docs, "docs", "", "write the results into benchmarks.md of this folder, with plots")
	flag.StringVar(&s.from, "from", "", "measure nothing: take the results from this file of -json")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, benchLimit)
	err := s.parse(*rtts, *rows, *ways)
	if err == nil {
		err = run(ctx, s)
	}
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (s *settings) parse(rtts, rows, ways string) (err error) {
	for text := range strings.SplitSeq(rtts, ",") {
		rtt, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || rtt < 0 || rtt > 10_000 {
			return fmt.Errorf("-rtt %q: want milliseconds, such as 0,20,80", rtts)
		}
		s.rtts = append(s.rtts, rtt)
	}
	if s.rows, err = regexp.Compile(rows); err != nil {
		return fmt.Errorf("-rows: %w", err)
	}
	if s.ways, err = regexp.Compile(ways); err != nil {
		return fmt.Errorf("-ways: %w", err)
	}
	if s.rounds < 1 || s.bytes < 1<<20 || s.requests <= 0 {
		return errors.New("at least one round, 1 MiB and some time are needed")
	}
	return nil
}

func run(ctx context.Context, s settings) (err error) {
	var report Report
	if s.from != "" {
		report, err = readJSON(s.from)
		report.Aims = aims(report)
	} else {
		report, err = measured(ctx, s)
	}
	if s.asJSON != "" && len(report.Rows)+len(report.Routes) > 0 { // what there is, after an error too
		err = errors.Join(err, writeJSON(s.asJSON, report))
	}
	if err != nil {
		return err
	}
	if s.docs != "" {
		if err := writeDocs(s.docs, report); err != nil {
			return err
		}
	}
	return report.print(os.Stdout)
}

func measured(ctx context.Context, s settings) (report Report, err error) {
	if os.Geteuid() != 0 {
		return report, errors.New("the embedded cluster needs root (network namespaces, containerd): sudo make bench")
	}
	dir, err := os.MkdirTemp("", "tele-bench-")
	if err != nil {
		return report, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	say := func(line string) { fmt.Fprintln(os.Stderr, "  ...", line) }
	world, err := rig.New(ctx, rig.Options{Dir: dir, Log: say})
	if err != nil {
		return report, err
	}
	return measure(ctx, world, s, say)
}
