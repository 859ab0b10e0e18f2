package control

import (
	"context"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

// Session is what Serve answers requests by. Its methods may be called
// concurrently.
type Session interface {
	Interceptor
	// Status returns what the session is doing now.
	Status() api.Status
	// Unused reports whether the session has nothing that would be lost if it
	// ended.
	Unused() bool
	// Connect makes this machine part of the cluster's network.
	Connect(ctx context.Context, spec api.ConnectSpec, p api.Progress) error
	// Close ends everything that the session has begun, and refuses what is
	// begun later. It may be called again.
	Close(ctx context.Context, p api.Progress) error
}

// Interceptor is a session's part that intercepts.
type Interceptor interface {
	// Intercept starts the intercepts that are asked for, at least one, and returns
	// when they are in force.
	Intercept(ctx context.Context, spec api.InterceptSpec, p api.Progress) ([]api.InterceptStatus, error)
	// Env returns the environment of the intercepted container, NAME=VALUE
	// each, and the names of the variables that could not be read.
	Env(ctx context.Context, id string) (env, missing []string, err error)
	// Ended returns a channel that is closed when there is no intercept of
	// that ID, or no more.
	Ended(id string) <-chan struct{}
	// Leave ends intercepts.
	Leave(ctx context.Context, spec api.LeaveSpec, p api.Progress) error
}
