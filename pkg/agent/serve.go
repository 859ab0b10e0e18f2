package agent

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime/debug"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/memory"
	"github.com/kubectl-tele/kubectl-tele/pkg/version"
)

func serve(ctx context.Context, fs *flag.FlagSet, args []string, getenv func(string) string, stderr io.Writer) error {
	cfg := Config{Pod: getenv(api.EnvPod), Version: version.Version}
	port := controlPort(fs)
	verbose := fs.Bool("v", false, "log every flow")
	fs.Func("capture", "LISTEN:APP, or LISTEN:APP/udp, a port to listen on and the app's port it stands for; may be repeated", func(s string) error {
		c, err := api.ParseCapture(s)
		cfg.Captures = append(cfg.Captures, c)
		return err
	})
	fs.Func("volume", "HERE:PATH, a volume and where the app has it; may be repeated", func(s string) error {
		v, err := api.ParseVolume(s)
		cfg.Volumes = append(cfg.Volumes, v)
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
