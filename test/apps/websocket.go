package main

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// sockets serves WebSocket echoes. http.Server forgets hijacked connections,
// so this remembers them and says goodbye to each at Shutdown.
type sockets struct {
	identity

	mu     sync.Mutex
	open   map[*websocket.Conn]struct{}
	closed bool
	wg     sync.WaitGroup
}

func (s *sockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := upgrader.Upgrade(w, r, http.Header{"X-Pod": {s.Pod}, "X-Version": {s.Version}})
	if err != nil {
		return // Upgrade has answered
	}
	defer func() { _ = conn.Close() }()
	if !s.add(conn) {
		return
	}
	defer s.remove(conn)
	if first := r.URL.Query().Get("first"); first != "" && conn.WriteMessage(websocket.TextMessage, []byte(first)) != nil {
		return
	}
	for {
		kind, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if err := conn.WriteMessage(kind, data); err != nil {
			return
		}
	}
}

func (s *sockets) add(conn *websocket.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.open == nil {
		s.open = map[*websocket.Conn]struct{}{}
	}
	s.open[conn] = struct{}{}
	s.wg.Add(1)
	return true
}

func (s *sockets) remove(conn *websocket.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, conn)
	s.wg.Done()
}

// Shutdown sends a close frame on every connection; the peer's answer ends it.
func (s *sockets) Shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	deadline := time.Now().Add(time.Second)
	bye := websocket.FormatCloseMessage(websocket.CloseGoingAway, "shutting down")
	for conn := range s.open {
		_ = conn.WriteControl(websocket.CloseMessage, bye, deadline)
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	}
}

// Wait returns when all connections have ended or ctx has.
func (s *sockets) Wait(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
