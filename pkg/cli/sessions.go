package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/control"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// client returns a client for the running session that the flags select, and its
// status: the session of this place or, if no flag names another, the only one
// there is. The client is not nil if a session is there that does not answer.
func (f *factory) client(ctx context.Context) (*control.Client, api.Status, error) {
	if p, err := f.place(); err == nil {
		dir, err := control.Dir(p.ID())
		if err != nil {
			return nil, api.Status{}, err
		}
		c := control.NewClient(dir)
		status, err := askSession(ctx, c, p.ID())
		if err == nil || !errors.Is(err, control.ErrNotRunning) {
			return c, status, err
		}
	}
	running, err := runningSessions(ctx)
	switch {
	case err != nil:
		return nil, api.Status{}, err
	case len(running) == 1 && !f.chosen():
		return running[0].client, running[0].status, running[0].silent
	case len(running) == 0:
		return nil, api.Status{}, hint.With(control.ErrNotRunning, "kubectl tele connect", "kubectl tele intercept")
	}
	return nil, api.Status{}, hint.With(fmt.Errorf("none of the %d running sessions is for this context and namespace", len(running)),
		"kubectl tele status lists them", "choose with --context and --namespace")
}

// chosen reports whether the user named a kubeconfig, context or namespace.
func (f *factory) chosen() bool {
	return deref(f.config.Context) != "" || deref(f.config.Namespace) != "" || deref(f.config.KubeConfig) != ""
}

// running is a session whose process is there.
type running struct {
	client *control.Client
	status api.Status // the ID alone if the session does not answer
	silent error      // why the session does not answer; nil if it does
}

// statusLimit bounds asking one session; a frozen one must not hold up others.
const statusLimit = 3 * time.Second

// askSession returns a session's status. The error is control.ErrNotRunning if
// there is none, and another if it is there but does not answer.
func askSession(ctx context.Context, c *control.Client, id string) (api.Status, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, statusLimit, fmt.Errorf("it does not answer within %s", statusLimit))
	defer cancel()
	status, err := c.Status(ctx)
	if err != nil && !errors.Is(err, control.ErrNotRunning) {
		err = hint.With(fmt.Errorf("ask session %s: %w", id, err), "kubectl tele quit --force ends it")
	}
	return status, err
}

// runningSessions returns the sessions of this user whose processes are there.
func runningSessions(ctx context.Context) ([]running, error) {
	ids, err := control.IDs()
	if err != nil {
		return nil, err
	}
	var out []running
	for _, id := range ids {
		dir, err := control.Dir(id)
		if err != nil {
			return nil, err
		}
		c := control.NewClient(dir)
		status, err := askSession(ctx, c, id)
		switch {
		case errors.Is(err, control.ErrNotRunning):
		case err != nil:
			out = append(out, running{client: c, status: api.Status{ID: id}, silent: err})
		default:
			out = append(out, running{client: c, status: status})
		}
	}
	return out, nil
}
