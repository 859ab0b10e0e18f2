package tunnel

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// maxLanes is how many lanes a laptop may have in one tunnel; maxLaneNumber
// bounds their numbers, which are not given twice.
const (
	maxLanes      = 16
	maxLaneNumber = 1 << 20
)

// Server is the agent's end of all tunnels. Its methods may be called
// concurrently.
type Server struct {
	cfg Config

	mu      sync.Mutex
	tunnels map[tunnelID]*Tunnel
}

// NewServer makes a server; cfg is that of each of its tunnels.
func NewServer(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, tunnels: make(map[tunnelID]*Tunnel)}, nil
}

// Handle takes a connection that a laptop has dialed, and returns the tunnel
// that it belongs to from now on. first: the tunnel is new, and the caller's to
// serve and to Close. The connection is closed when Handle fails. ctx bounds
// the handshake.
func (s *Server) Handle(ctx context.Context, conn net.Conn) (t *Tunnel, first bool, err error) {
	fr := newFrameReader(conn)
	err = handshake(ctx, conn, func() error {
		hello, received, err := helloFromServer(conn, fr, s.cfg)
		if err != nil {
			return err
		}
		if first = !hello.join; first {
			t, err = s.make(hello, conn, fr)
			return err
		}
		t, err = s.join(hello, received, conn, fr)
		return err
	})
	if err != nil {
		if t != nil && first { // ctx has ended at the last moment
			_ = t.Close()
		}
		return nil, false, fmt.Errorf("handshake with laptop: %w", err)
	}
	return t, first, nil
}

// make begins a tunnel.
func (s *Server) make(hello *clientHello, conn net.Conn, fr *frameReader) (*Tunnel, error) {
	t := newTunnel(s.cfg, false, hello.tunnel, hello.session)
	t.onEnd = func() { s.forget(t) }
	first := t.allLanes()[0]
	first.joining.Lock() // whoever joins it waits until it has begun
	defer first.joining.Unlock()
	s.mu.Lock()
	known := s.tunnels[hello.tunnel] != nil
	if !known {
		s.tunnels[hello.tunnel] = t
	}
	s.mu.Unlock()
	if known {
		t.cancel()
		return nil, malformed("HELLO makes a tunnel that there is")
	}
	_, err := conn.Write(appendJoined(nil, 0))
	if err == nil {
		err = t.start(conn, fr)
	}
	if err != nil {
		t.cancel()
		s.forget(t)
		return nil, fmt.Errorf("send HELLO: %w", err)
	}
	return t, nil
}

// join lets a connection carry a lane of a tunnel, one that there is or the
// next.
func (s *Server) join(hello *clientHello, received uint64, conn net.Conn, fr *frameReader) (*Tunnel, error) {
	s.mu.Lock()
	t := s.tunnels[hello.tunnel]
	s.mu.Unlock()
	if t == nil || t.session != hello.session {
		return nil, ErrUnknownTunnel
	}
	l, err := t.laneFor(hello.lane)
	if err != nil {
		return nil, err
	}
	l.joining.Lock()
	defer l.joining.Unlock()
	if l.last != nil {
		l.resumes.Add(1)
	}
	if _, err := conn.Write(appendJoined(nil, l.release())); err != nil {
		return nil, fmt.Errorf("send HELLO: %w", err)
	}
	if err := l.attach(conn, fr, received); err != nil {
		return nil, err // perhaps an attempt that a later one has overtaken
	}
	return t, nil
}

// laneFor finds a lane, or makes it if it is new.
func (t *Tunnel) laneFor(number uint32) (*lane, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.allLanes() {
		if l.number == number {
			return l, nil
		}
	}
	_, retired := t.retiredLanes[number]
	switch {
	case retired:
		return nil, errRetired
	case len(t.allLanes()) >= maxLanes:
		return nil, fmt.Errorf("%w: it has %d lanes", ErrClosed, maxLanes)
	}
	if l := t.addLaneLocked(number); l != nil {
		return l, nil
	}
	return nil, ErrUnknownTunnel
}

func (s *Server) forget(t *Tunnel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tunnels[t.id] == t {
		delete(s.tunnels, t.id)
	}
}
