package handler

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// Server serves captured connections and associations by one handler. Its methods may be called
// concurrently.
type Server struct {
	handler Handler
	log     *slog.Logger
	conns   connSet
	failed  atomic.Pointer[error] // of the last dial; nil if it succeeded
	newTap  func() *router.Tap    // nil: nobody reads along
}

// NewServer returns a Server for a handler. It does not connect to the handler
// yet.
func NewServer(h Handler, log *slog.Logger) *Server {
	return &Server{handler: h, log: log}
}

// Tap shows each connection to a tap of its own. It is called before Serve.
func (s *Server) Tap(newTap func() *router.Tap) { s.newTap = newTap }

// Serve answers one captured connection and returns when it has ended; the end
// of ctx resets it. If the handler cannot be reached the request is refused, and
// the agent passes the connection to the app.
func (s *Server) Serve(ctx context.Context, req *tunnel.Request) {
	pair := s.conns.begin()
	defer s.conns.end(pair)
	conn, err := s.handler.Dial(req.Context())
	if err != nil {
		s.missed(err)
		_ = req.Refuse(tunnel.Refused, "the handler does not answer")
		return
	}
	s.failed.Store(nil)
	flow, err := req.Accept()
	if err != nil {
		_ = conn.Close()
		return
	}
	client, handler := s.conns.join(pair, flow, conn)
	if s.newTap != nil {
		client = s.newTap().Client(client)
	}
	if _, err := splice.Splice(ctx, client, handler); err != nil {
		s.log.Debug("connection ended", "err", err)
	}
}

// missed notes why the handler was not reached.
func (s *Server) missed(err error) {
	s.failed.Store(&err)
	s.log.Warn("handler not reached", "handler", s.handler, "err", err)
}

// Drain half-closes each connection once it is idle, and returns when none is
// open, nor an association, when ctx ends, or after 10 s.
func (s *Server) Drain(ctx context.Context) { s.conns.drain(ctx) }

// Failed returns why the handler was not reached by the last connection, nil if
// it was reached.
func (s *Server) Failed() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}
