package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("POST /stay", sameVersion(s.stay))
	mux.HandleFunc("POST /connect", sameVersion(s.operation(s.connect)))
	mux.HandleFunc("POST /intercepts", sameVersion(s.operation(s.intercept)))
	mux.HandleFunc("POST /leave", sameVersion(s.operation(s.leave)))
	mux.HandleFunc("POST /quit", s.operation(s.quit))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setVersion(w.Header())
		mux.ServeHTTP(w, r)
	})
}

func (s *server) status(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.session.Status())
}

func (s *server) stay(w http.ResponseWriter, _ *http.Request) {
	if !s.life.begin() {
		refuseEnding(w)
		return
	}
	s.life.done()
}

func (s *server) connect(r *http.Request, p api.Progress) (api.Event, error) {
	var spec api.ConnectSpec
	if err := read(r, &spec); err != nil {
		return api.Event{}, err
	}
	if err := s.session.Connect(r.Context(), spec, p); err != nil {
		return api.Event{}, err
	}
	status := s.session.Status()
	return api.Event{Status: &status}, nil
}

func (s *server) intercept(r *http.Request, p api.Progress) (api.Event, error) {
	var spec api.InterceptSpec
	if err := read(r, &spec); err != nil {
		return api.Event{}, err
	}
	ctx := r.Context()
	begun, err := s.session.Intercept(ctx, spec, p)
	if err != nil {
		return api.Event{}, err
	}
	var ids []string
	for _, i := range begun {
		ids = append(ids, i.ID)
	}
	undo := func(p api.Progress) error {
		return s.session.Leave(context.WithoutCancel(ctx), api.LeaveSpec{IDs: ids}, p)
	}
	last := api.Event{Intercepts: begun}
	if spec.WithEnv {
		env, missing, err := s.session.Env(ctx, ids[0])
		if err != nil {
			return api.Event{}, errors.Join(err, undo(p))
		}
		if len(missing) > 0 {
			p.Warn(fmt.Sprintf("of the container's environment, these could not be had: %s", strings.Join(missing, ", ")))
		}
		last.Env = env
	}
	if !spec.Hold {
		return last, nil
	}
	// The intercepts live as long as the command that asked for them.
	p.Emit(last)
	for _, id := range ids {
		select {
		case <-s.session.Ended(id):
		case <-ctx.Done():
			return api.Event{}, undo(nil)
		}
	}
	return api.Event{}, nil
}

func (s *server) leave(r *http.Request, p api.Progress) (api.Event, error) {
	var spec api.LeaveSpec
	if err := read(r, &spec); err != nil {
		return api.Event{}, err
	}
	return api.Event{}, s.session.Leave(context.WithoutCancel(r.Context()), spec, p)
}

func (s *server) quit(r *http.Request, p api.Progress) (api.Event, error) {
	err := s.session.Close(context.WithoutCancel(r.Context()), p)
	s.life.finish()
	return api.Event{}, err
}

func read(r *http.Request, spec any) error {
	if err := json.NewDecoder(r.Body).Decode(spec); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	return nil
}
