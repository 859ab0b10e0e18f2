package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/poll"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

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
	ctx, cancel := context.WithTimeoutCause(ctx, checkLimit, errors.New("no session has come yet"))
	defer cancel()
	t, err := tunnel.Dial(ctx, func(ctx context.Context) (net.Conn, error) { return dialControl(ctx, *port) }, tunnel.Config{Key: key})
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }()
	if *await == 0 {
		return nil
	}
	return poll.Until(ctx, checkEvery, func() (bool, error) {
		info, err := askInfo(ctx, t)
		if err != nil {
			return false, err
		}
		held := slices.ContainsFunc(info.Captures, func(c api.CaptureInfo) bool {
			return slices.ContainsFunc(c.Holders, func(h api.Holder) bool { return h.LostSeconds == 0 })
		})
		return held || info.UpSeconds >= await.Seconds(), nil
	})
}

// askInfo asks the agent at the other end of t for its Info. The end of ctx
// ends the flow.
func askInfo(ctx context.Context, t *tunnel.Tunnel) (api.Info, error) {
	flow, err := t.Open(ctx, tunnel.Target{Network: api.NetworkService, Address: api.ServiceInfo})
	if err != nil {
		return api.Info{}, err
	}
	defer func() { _ = flow.Close() }()
	defer context.AfterFunc(ctx, func() { _ = flow.Close() })()
	return api.ReadInfo(flow)
}
