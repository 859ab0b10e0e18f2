package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// shutdownLimit bounds how long Serve waits for responses under way at its end.
const shutdownLimit = 5 * time.Second

// Serve answers the commands of this user on the control socket, until one of
// them is to quit, ctx ends, or the session has been unused for a while. The
// session is closed when it returns.
func Serve(ctx context.Context, l net.Listener, session Session, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newServer(session, log, cancel)
	defer s.life.idle.Stop()
	server := &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	closeErr := session.Close(context.WithoutCancel(ctx), nil)
	stop, stopCancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer stopCancel()
	if shutErr := server.Shutdown(stop); shutErr != nil {
		_ = server.Close()
	}
	if err == nil {
		err = <-failed
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, closeErr)
}
