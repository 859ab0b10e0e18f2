package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// watching opens a watch and returns what it tells.
func watching(t *testing.T, tun *tunnel.Tunnel, r api.WatchRequest) <-chan api.Exchange {
	t.Helper()
	flow, err := openService(t, tun, api.ServiceWatch, r)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan api.Exchange, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = api.ReadExchanges(flow, func(e api.Exchange) { told <- e })
	}()
	t.Cleanup(func() {
		_ = flow.Close()
		<-done
	})
	return told
}

// TestWatch: whoever answers, and whether the requests are told apart or not, each is
// told of once.
func TestWatch(t *testing.T) {
	for _, tc := range []struct {
		name  string
		rules []string // whose requests are taken, "": all
		user  string   // who asks
		by    string   // who answers
	}{
		{"pass-through", nil, "alice", "app"},
		{"all", []string{""}, "alice", "s"},
		{"no match", []string{"bob"}, "alice", "app"},
		{"match", []string{"alice"}, "alice", "s"},
	} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(tc.name+" "+protocol, func(t *testing.T) {
				port := http2App(t)
				a := startAgent(t, Config{Pod: "pod-1", Captures: []api.Capture{{App: port}}})
				tun := a.connect(t, "s")
				answersAll(t, tun, "s")
				for _, user := range tc.rules {
					r := take("i", port)
					if user != "" {
						r = requestsOf("i", user, port)
					}
					mustRegister(t, tun, r)
				}
				told := watching(t, tun, api.WatchRequest{Port: port})
				other := watching(t, tun, api.WatchRequest{Port: port + 1})
				waitFor(t, "the watchers", func() bool { return a.watchers.n.Load() == 2 })
				address := fmt.Sprintf("127.0.0.1:%d", a.CapturePorts()[0])
				if by := askProtocol(t, address, protocol, tc.user); by != tc.by {
					t.Fatalf("answered by %q, want %q", by, tc.by)
				}
				e := <-told
				by := "app"
				if e.By != nil {
					by = "s"
				}
				want := api.Exchange{
					Begin: e.Begin, Millis: e.Millis, Pod: "pod-1", Port: port, Client: e.Client, Protocol: protocol, Method: "POST",
					Host: address, Path: "/a?b=c", Status: 200, Sent: 5, Got: int64(len(tc.by)), By: e.By, ID: e.ID,
				}
				if e != want || by != tc.by || e.Millis <= 0 || time.Since(e.Begin) > time.Minute {
					t.Errorf("told of\n\t%+v, by %s, not\n\t%+v, by %s", e, by, want, tc.by)
				}
				if (e.ID == "i") != (by == "s") {
					t.Errorf("registration %q answered, and %s did", e.ID, by)
				}
				if len(told)+len(other) > 0 {
					t.Error("told of more")
				}
			})
		}
	}
}

// TestWatcherIsNotWaitedFor: what it does not read is missed, and it is told how much.
func TestWatcherIsNotWaitedFor(t *testing.T) {
	var w watchers
	one := w.add(0)
	for n := range watchQueue + 10 {
		w.tell(api.Exchange{Status: n})
	}
	if first := <-one.queue; first.Status != 0 || first.Missed != 0 {
		t.Errorf("first told of %+v", first)
	}
	w.tell(api.Exchange{Status: 1})
	for range watchQueue - 1 {
		<-one.queue
	}
	if last := <-one.queue; last.Missed != 10 {
		t.Errorf("told of %d that were missed, not 10", last.Missed)
	}
	for range maxWatchers - 1 {
		w.add(0)
	}
	if w.add(0) != nil {
		t.Error("more watchers than there may be")
	}
	w.remove(one)
	if w.add(0) == nil {
		t.Error("no watcher after one has gone")
	}
}

// http2App answers "app" in HTTP/1 and HTTP/2.
func http2App(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	serveNamed(t, l, "app")
	return portOf(l.Addr())
}

func serveNamed(t *testing.T, l net.Listener, name string) {
	server := &http.Server{ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // an answer may end before its request does
		w.Header().Set("Content-Length", fmt.Sprint(len(name)))
		_, _ = fmt.Fprint(w, name)
	})}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}

// answersAll makes a session answer whatever it is offered, by a server.
func answersAll(t *testing.T, tun *tunnel.Tunnel, name string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveNamed(t, l, name)
	go passAll(tun, l.Addr().String())
}

// passAll passes whatever a session is offered on to an address.
func passAll(tun *tunnel.Tunnel, address string) {
	for {
		req, err := tun.AcceptFlow(context.Background())
		if err != nil {
			return
		}
		conn, err := net.Dial("tcp", address)
		if err != nil {
			_ = req.Refuse(tunnel.Unreachable, err.Error())
			continue
		}
		flow, err := req.Accept()
		if err != nil {
			_ = conn.Close()
			continue
		}
		go func() { _, _ = splice.Splice(context.Background(), flow, conn.(*net.TCPConn)) }()
	}
}

// askProtocol sends a request of five bytes and returns who answers.
func askProtocol(t *testing.T, address, protocol, user string) string {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), DisableKeepAlives: protocol == "HTTP/1.1"}
	transport.Protocols.SetHTTP1(protocol == "HTTP/1.1")
	transport.Protocols.SetUnencryptedHTTP2(protocol == "HTTP/2")
	defer transport.CloseIdleConnections()
	return askOver(t, transport, address, user)
}

// askOver asks over one of a transport's connections.
func askOver(t *testing.T, transport *http.Transport, address, user string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/a?b=c", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-User", user)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
