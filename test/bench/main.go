//go:build linux

// Command bench compares kubectl tele with `kubectl port-forward` to the same
// pod, in the same run, on the embedded cluster. It prints ratios: the figures
// themselves say more about the machine than about the programs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// benchLimit covers building Kubernetes once on a slow machine.
const benchLimit = 90 * time.Minute

func main() {
	asJSON := flag.Bool("json", false, "print the results as JSON")
	bytes := flag.Int64("bytes", 1<<30, "size of a bulk transfer")
	rounds := flag.Int("rounds", 3, "how often each row is measured; the median counts")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, benchLimit)
	err := run(ctx, settings{bytes: *bytes, rounds: *rounds}, *asJSON)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type settings struct {
	bytes  int64
	rounds int
}

func run(ctx context.Context, s settings, asJSON bool) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("the embedded cluster needs root (network namespaces, containerd): sudo make bench")
	}
	if s.rounds < 1 || s.bytes < 1<<20 {
		return errors.New("at least one round and 1 MiB are needed")
	}
	dir, err := os.MkdirTemp("", "tele-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	say := func(line string) { fmt.Fprintln(os.Stderr, "  ...", line) }
	world, err := rig.New(ctx, rig.Options{Dir: dir, Log: say})
	if err != nil {
		return err
	}
	report, err := measure(ctx, world, s, say)
	if err != nil {
		return err
	}
	if asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	}
	report.print()
	return nil
}

// Report is everything that one run measured.
type Report struct {
	Date      time.Time `json:"date"`
	Rows      []Row     `json:"rows"`
	Deadlines []Figure  `json:"deadlines"`
}

// Row is one measurement of both programs.
type Row struct {
	Name        string  `json:"name"`
	Unit        string  `json:"unit"`
	Tele        float64 `json:"tele"`
	PortForward float64 `json:"portForward"`
	// Ratio is how many times better kubectl tele is.
	Ratio float64 `json:"ratio"`
}

// Figure is a time that the product promises, and what it took.
type Figure struct {
	Name     string  `json:"name"`
	Promised string  `json:"promised"`
	Seconds  float64 `json:"seconds"`
}

func (r Report) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "\tkubectl tele\tkubectl port-forward\tratio")
	for _, row := range r.Rows {
		_, _ = fmt.Fprintf(w, "%s\t%.4g %s\t%.4g %s\t%.2f\n", row.Name, row.Tele, row.Unit, row.PortForward, row.Unit, row.Ratio)
	}
	_, _ = fmt.Fprintln(w)
	for _, f := range r.Deadlines {
		_, _ = fmt.Fprintf(w, "%s\t%.2f s\tpromised: %s\n", f.Name, f.Seconds, f.Promised)
	}
	_ = w.Flush()
}
