package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// soak is a handler in TestSoak that dies now and then.
type soak struct {
	l     net.Listener
	mu    sync.Mutex
	conns []splice.Conn
}

// Open implements Taker.
func (s *soak) Open(ctx context.Context) (splice.Conn, error) {
	conn, err := dial(ctx, s.l)
	if err == nil {
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
	}
	return conn, err
}

// die resets every connection.
func (s *soak) die() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		_ = splice.Reset(conn)
	}
	s.conns = nil
}

// Taken implements Taker.
func (s *soak) Taken() {}

// Refuses implements Taker.
func (*soak) Refuses() bool { return false }

// Ended implements Taker.
func (s *soak) Ended() <-chan struct{} { return nil }

// echo answers with as many bytes as it is asked for, and with what it was sent.
func echo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Early") != "" { // does not read what it is sent
		w.WriteHeader(http.StatusForbidden)
		return
	}
	n, _ := io.Copy(io.Discard, r.Body)
	size, _ := strconv.Atoi(r.Header.Get("X-Size"))
	w.Header().Set("X-Got", strconv.FormatInt(n, 10))
	w.Header().Set("Trailer", "X-Sum")
	for size > 0 {
		part := min(size, 10_000)
		if _, err := w.Write(make([]byte, part)); err != nil {
			return
		}
		size -= part
	}
	w.Header().Set("X-Sum", "1")
}

// TestSoak: after thousands of streams of one connection, of all sizes and ends, to the
// app and to a handler that dies now and then, no credit has leaked.
func TestSoak(t *testing.T) {
	streams := 20_000
	if testing.Short() {
		streams = 2000
	}
	serve := func() net.Listener {
		l := listen(t)
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(echo), Protocols: new(http.Protocols)}
		server.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		server.Protocols.SetUnencryptedHTTP2(true)
		var running sync.WaitGroup
		running.Go(func() { _ = server.Serve(l) })
		t.Cleanup(func() {
			_ = server.Close()
			running.Wait()
		})
		return l
	}
	app, handler := serve(), &soak{l: serve()}
	front := listen(t)
	budget := NewBudget(64 << 20)
	relays := make(chan *relay, 1)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		in, err := front.Accept()
		if err != nil {
			return
		}
		_, _ = io.ReadFull(in, make([]byte, len(Preface)))
		toApp, err := dial(ctx, app)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(toApp, Preface)
		r := newRelay(Config{
			Client: in.(splice.Conn), App: toApp, Held: budget, Log: slog.New(slog.DiscardHandler),
			Pick: func(fields []hpack.HeaderField) Taker {
				if slices.ContainsFunc(fields, func(f hpack.HeaderField) bool { return f.Name == "x-user" }) {
					return handler
				}
				return nil
			},
			DialApp: func(ctx context.Context) (splice.Conn, error) { return dial(ctx, app) },
		})
		relays <- r
		_ = r.serve(ctx)
	})
	transport := &http.Transport{Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{StrictMaxConcurrentRequests: true}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: transport}

	address := front.Addr().String()
	// One request by itself: a connection whose first request is cancelled is closed.
	if err := ask(ctx, client, request{address: address}); err != nil {
		t.Fatal(err)
	}
	r := <-relays
	var begun, whole, failed atomic.Int64
	for range 50 {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(begun.Load()), 1))
			for begun.Add(1) <= int64(streams) {
				if n := begun.Load(); n%1000 == 0 {
					handler.die()
				}
				if err := soakRequest(client, address, random); err != nil {
					failed.Add(1)
				} else {
					whole.Add(1)
				}
			}
		})
	}
	waitUntil(t, "all streams are over", func() bool { return begun.Load() >= int64(streams)+50 })
	t.Logf("%d streams were answered, %d were not", whole.Load(), failed.Load())
	if whole.Load() < int64(streams)/3 {
		t.Error("most failed")
	}
	waitUntil(t, "nothing is left of them", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.streams) == 0 && len(r.client.held) == 0 && budget.Held() == 0
	})
	r.mu.Lock()
	if r.ended {
		t.Errorf("the connection has ended: %v", r.err)
	}
	r.mu.Unlock()
	// A window that has leaked does not let this pass.
	for _, user := range []string{"", "me"} {
		for range 20 {
			if err := ask(ctx, client, request{address, user, 3 << 20, 3 << 20, false, false}); err != nil {
				t.Errorf("in the end: %v", err)
			}
		}
	}
	r.mu.Lock()
	// The client, which gives 1 GiB, forgets some of what comes for requests that it
	// has cancelled. A frame a stream would be 300 MB.
	if r.client.window < 1<<30-16<<20 {
		t.Errorf("the client's window is %d", r.client.window)
	}
	r.mu.Unlock()
	transport.CloseIdleConnections()
	cancel()
	running.Wait()
	if held := budget.Held(); held != 0 {
		t.Errorf("%d bytes are held after the end", held)
	}
}

// request is one of TestSoak: how many bytes go each way, and whether the app reads
// them and the client the answer.
type request struct {
	address, user   string
	up, down        int
	unread, ignored bool
}

func soakRequest(client *http.Client, address string, random *rand.Rand) error {
	size := func() int { return []int{0, 10, 5000, 100_000, 300_000}[random.IntN(5)] * random.IntN(10) / 10 }
	r := request{
		address: address, user: []string{"", "me"}[random.IntN(2)], up: size(), down: size(),
		unread: random.IntN(10) == 0, ignored: random.IntN(10) == 0,
	}
	limit := time.Minute
	if random.IntN(5) == 0 {
		limit = time.Duration(random.IntN(5000)) * time.Microsecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return ask(ctx, client, r)
}

// ask sends a request and checks the answer.
func ask(ctx context.Context, client *http.Client, r request) error {
	method, body := http.MethodGet, io.Reader(nil)
	if r.up > 0 {
		method, body = http.MethodPost, bytes.NewReader(make([]byte, r.up))
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.address+"/", body)
	if err != nil {
		return err
	}
	req.Header.Set("X-Size", strconv.Itoa(r.down))
	if r.user != "" {
		req.Header.Set("X-User", r.user)
	}
	if r.unread {
		req.Header.Set("X-Early", "1")
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if r.unread || r.ignored {
		return nil
	}
	n, err := io.Copy(io.Discard, resp.Body)
	switch {
	case err != nil:
		return err
	case int(n) != r.down, resp.Header.Get("X-Got") != strconv.Itoa(r.up), resp.Trailer.Get("X-Sum") != "1":
		return errors.New("a false answer")
	}
	return nil
}

// waitUntil waits until something is so.
func waitUntil(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within minutes", what)
		}
	}
}
