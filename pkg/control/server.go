package control

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

// server turns requests on the socket into calls of the session.
type server struct {
	session Session
	log     *slog.Logger
	life    *lifetime
}

func newServer(session Session, log *slog.Logger, end context.CancelFunc) *server {
	return &server{session: session, log: log, life: newLifetime(session.Unused, end)}
}

// sameVersion refuses requests of a command that speaks another version, with an
// Event that says why.
func sameVersion(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		command := versionOf(r.Header)
		if command == api.Version {
			next(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.WriteHeader(http.StatusUpgradeRequired)
		err := &VersionError{Session: api.Version, Command: command}
		_ = json.NewEncoder(w).Encode(api.Event{Error: NewFailure(err), End: true})
	}
}

// operation runs f and writes its progress as JSON lines. The last line has End
// set, and Error if f failed. The context of f ends when the command that asks
// goes away.
func (s *server) operation(f func(*http.Request, api.Progress) (api.Event, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.life.begin() {
			refuseEnding(w)
			return
		}
		defer s.life.done()
		w.Header().Set("Content-Type", "application/x-ndjson")
		var mu sync.Mutex
		encoder := json.NewEncoder(w)
		write := func(e api.Event) {
			mu.Lock()
			defer mu.Unlock()
			_ = encoder.Encode(e)
			_ = http.NewResponseController(w).Flush()
		}
		last, err := f(r, write)
		last.End = true
		last.Error = NewFailure(err)
		if err != nil {
			s.log.Warn("operation failed", "path", r.URL.Path, "err", err)
		}
		write(last)
	}
}

// refuseEnding makes the client return ErrNotRunning.
func refuseEnding(w http.ResponseWriter) {
	http.Error(w, "the session is ending", http.StatusServiceUnavailable)
}
