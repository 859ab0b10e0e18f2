package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

// stage is where the raw application plays. It plays one conversation at a time,
// on the first connection that comes after it was told of it.
type stage struct {
	mu  sync.Mutex
	run *script // the last one; nil: none yet
}

// script is a conversation that is being played.
type script struct {
	api.Conversation
	done chan struct{} // closed when the side is known

	// Guarded by stage.mu; side may be read after done.
	taken  bool
	side   api.Side
	others int
}

// runRaw serves what is played at the first address, and at the second one the
// script of it, by HTTP:
//
//	POST /play     the body is the api.Conversation of the next connection
//	GET  /played   waits for its end, answers the api.Played, without the client
//	GET  /healthz  200
func runRaw(ctx context.Context, s settings, _ []string) error {
	if len(s.addrs) != 2 {
		return errors.New("raw: want two addresses")
	}
	control, err := listen(s.addrs[1:])
	if err != nil {
		return err
	}
	fmt.Fprintf(s.log, "raw: told what to play on %s\n", control[0].Addr())
	st := &stage{}
	server := &http.Server{Handler: st.control(), ReadHeaderTimeout: 30 * time.Second}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(control[0]) })
	defer wg.Wait()
	defer func() { _ = server.Close() }()
	s.addrs = s.addrs[:1]
	return serveTCP(ctx, s, "raw", func(_ context.Context, conn *net.TCPConn) error {
		st.play(conn)
		return nil
	})
}

// play plays the app in the conversation whose turn it is, if there is one.
func (st *stage) play(conn *net.TCPConn) {
	st.mu.Lock()
	r := st.run
	mine := r != nil && !r.taken
	switch {
	case mine:
		r.taken = true
	case r != nil:
		r.others++
	}
	st.mu.Unlock()
	if !mine {
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	side := play(conn, r.Conversation, true)
	st.mu.Lock()
	defer st.mu.Unlock()
	r.side = side
	close(r.done)
}

func (st *stage) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("POST /play", func(w http.ResponseWriter, r *http.Request) {
		next := &script{done: make(chan struct{})}
		if err := json.NewDecoder(r.Body).Decode(&next.Conversation); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		st.mu.Lock()
		defer st.mu.Unlock()
		st.run = next
	})
	mux.HandleFunc("GET /played", func(w http.ResponseWriter, r *http.Request) {
		st.mu.Lock()
		last := st.run
		st.mu.Unlock()
		if last == nil {
			http.Error(w, "nothing was played", http.StatusNotFound)
			return
		}
		out := api.Played{Name: last.Name}
		select {
		case <-last.done:
		case <-time.After(2 * api.ConversationLimit):
			out.Error = "the app has no connection, or one that does not end"
		case <-r.Context().Done():
			return
		}
		st.mu.Lock()
		defer st.mu.Unlock()
		out.App, out.Others = last.side, last.others
		writeJSON(w, http.StatusOK, out)
	})
	return mux
}
