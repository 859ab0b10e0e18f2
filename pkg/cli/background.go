package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/control"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/memory"
	"github.com/kubectl-tele/kubectl-tele/pkg/session"
)

// sessionCommand is the hidden command that is the background session.
const sessionCommand = "__session"

func newSessionCommand(f *factory) *cobra.Command {
	return &cobra.Command{
		Use: sessionCommand, Hidden: true, Args: noArgs,
		Short: "The background session (started by connect and intercept)",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.serveSession(cmd.Context())
		},
	}
}

// serveSession is the session's process: one JSON line on stdout says that it
// is ready or why not; after that it speaks on its socket and in its log.
func (f *factory) serveSession(ctx context.Context) error {
	err := f.runSession(ctx, func() {
		_ = json.NewEncoder(f.Out).Encode(api.Event{End: true})
		if c, ok := f.Out.(io.Closer); ok {
			_ = c.Close()
		}
	})
	if err != nil {
		_ = json.NewEncoder(f.Out).Encode(api.Event{Error: control.NewFailure(err), End: true})
	}
	return err
}

// runSession serves this place's session until it ends; ready is called when
// its socket answers.
func (f *factory) runSession(ctx context.Context, ready func()) (err error) {
	p, err := f.place()
	if err != nil {
		return err
	}
	cfg, err := p.sessionConfig()
	if err != nil {
		return err
	}
	listener, release, err := control.Listen(cfg.Dir)
	if err != nil {
		return err
	}
	defer release()
	log, closeLog, err := openLog(control.LogFile(cfg.Dir))
	if err != nil {
		return err
	}
	defer closeLog()
	cfg.Log = log
	noticeSilence()
	s, err := session.New(cfg)
	if err != nil {
		return err
	}
	log.Info("session starts", "context", cfg.Context, "namespace", cfg.Namespace, "server", cfg.Server, "pid", os.Getpid())
	ready()
	defer memory.GiveBack()()
	err = control.Serve(ctx, listener, s, log)
	log.Info("session ends", "err", err)
	return err
}

// noticeSilence makes client-go give up a connection to the API server on which
// nothing comes any more within seconds, not 45 s: laptops change networks.
// The variables are those of k8s.io/apimachinery/pkg/util/net; a user's own
// settings stay.
func noticeSilence() {
	for _, name := range []string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS", "HTTP2_PING_TIMEOUT_SECONDS"} {
		if os.Getenv(name) == "" {
			_ = os.Setenv(name, "3")
		}
	}
}

// maxLogSize is where a log is turned over at the next start; one old file is
// kept.
const maxLogSize = 4 << 20

func openLog(path string) (*slog.Logger, func(), error) {
	if st, err := os.Stat(path); err == nil && st.Size() > maxLogSize {
		_ = os.Rename(path, path+".1")
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open the log: %w", err)
	}
	level := slog.LevelInfo
	if os.Getenv("TELE_DEBUG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(file, &slog.HandlerOptions{Level: level})), func() { _ = file.Close() }, nil
}
