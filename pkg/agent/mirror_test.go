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
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// receives makes a session serve what it is offered, and returns what its handler was
// sent, as "PROTOCOL METHOD PATH USER BYTES".
func receives(t *testing.T, tun *tunnel.Tunnel) <-chan string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 100)
	server := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		got <- fmt.Sprintf("%s %s %s %s %d %v", r.Proto, r.Method, r.URL, r.Header.Get("X-User"), len(b), err)
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(make([]byte, 300_000)) // nobody wants it
	})}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	go passAll(tun, l.Addr().String())
	return got
}

// TestMirror: the app answers, and the mirror gets a copy of what it is to.
func TestMirror(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		for _, user := range []string{"", "alice"} {
			t.Run(protocol+" of "+user, func(t *testing.T) {
				port := http2App(t)
				a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
				tun := a.connect(t, "s")
				got := receives(t, tun)
				r := take("i", port)
				if user != "" {
					r = requestsOf("i", user, port)
				}
				r.Rules[0].Action = api.Mirror
				mustRegister(t, tun, r)
				address := fmt.Sprintf("127.0.0.1:%d", a.CapturePorts()[0])
				proto := protocol
				if protocol == "HTTP/2" {
					proto = "HTTP/2.0"
				}
				for _, asks := range []string{"alice", "bob", "alice"} {
					if by := askProtocol(t, address, protocol, asks); by != "app" {
						t.Fatalf("answered by %q", by)
					}
					if user == "" || asks == user {
						if copied, want := <-got, proto+" POST /a?b=c "+asks+" 5 <nil>"; copied != want {
							t.Errorf("the mirror got %q, want %q", copied, want)
						}
					}
				}
				if len(got) > 0 {
					t.Errorf("the mirror got more: %q", <-got)
				}
				holders := a.Info().Captures[0].Holders
				if len(holders) != 1 || !holders[0].Mirror || holders[0].Dropped != 0 || holders[0].Taken == 0 {
					t.Errorf("the holders are %+v", holders)
				}
			})
		}
	}
}

// TestMirrorOfManyConnections that clients keep: a copy that was answered takes no room.
func TestMirrorOfManyConnections(t *testing.T) {
	port := http2App(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
	tun := a.connect(t, "s")
	got := receives(t, tun)
	r := requestsOf("i", "alice", port)
	r.Rules[0].Action = api.Mirror
	mustRegister(t, tun, r)
	address := fmt.Sprintf("127.0.0.1:%d", a.CapturePorts()[0])
	for range maxCopying + 10 {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		t.Cleanup(transport.CloseIdleConnections)
		askOver(t, transport, address, "alice")
		select {
		case <-got:
		case <-time.After(20 * time.Second):
			t.Fatalf("no copy came: %+v", a.Info().Captures[0].Holders)
		}
	}
}

// TestMirrorBesideATaker: one takes a request of which another gets a copy.
func TestMirrorBesideATaker(t *testing.T) {
	port := http2App(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
	alice, bob := a.connect(t, "alice"), a.connect(t, "bob")
	answersAll(t, alice, "alice")
	mustRegister(t, alice, requestsOf("a", "alice", port))
	got := receives(t, bob)
	all := take("b", port)
	all.Rules[0].Action = api.Mirror
	mustRegister(t, bob, all)
	address := fmt.Sprintf("127.0.0.1:%d", a.CapturePorts()[0])
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		for user, by := range map[string]string{"alice": "alice", "carol": "app"} {
			if answered := askProtocol(t, address, protocol, user); answered != by {
				t.Errorf("%s of %s answered by %q", protocol, user, answered)
			}
			if copied := <-got; !strings.Contains(copied, " "+user+" 5 ") {
				t.Errorf("the mirror got %q of %s", copied, user)
			}
		}
	}
}

// TestMirrorThatDoesNotRead: nobody waits for it, what is held for it is bounded, and
// what it does not get is counted.
func TestMirrorThatDoesNotRead(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		for _, user := range []string{"", "alice"} {
			t.Run(protocol+" of "+user, func(t *testing.T) {
				l, err := net.Listen("tcp", "127.0.0.2:0")
				if err != nil {
					t.Fatal(err)
				}
				serveNamed(t, l, "app")
				port := portOf(l.Addr())
				a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
				tun := a.connect(t, "s")
				go func() {
					for {
						req, err := tun.AcceptFlow(context.Background())
						if err != nil {
							return
						}
						if flow, err := req.Accept(); err == nil {
							context.AfterFunc(t.Context(), func() { _ = flow.Close() })
						}
					}
				}()
				r := take("i", port)
				if user != "" {
					r = requestsOf("i", user, port)
				}
				r.Rules[0].Action = api.Mirror
				mustRegister(t, tun, r)
				address := fmt.Sprintf("127.0.0.1:%d", a.CapturePorts()[0])
				transport := &http.Transport{Protocols: new(http.Protocols)}
				transport.Protocols.SetHTTP1(protocol == "HTTP/1.1")
				transport.Protocols.SetUnencryptedHTTP2(protocol == "HTTP/2")
				defer transport.CloseIdleConnections()
				for range 5 {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address, strings.NewReader(strings.Repeat("b", 8<<20)))
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("X-User", "alice")
					resp, err := transport.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					if held := a.mirrored.Held() + a.held.Held(); held > 2<<20 { // five bodies are 40 MiB
						t.Fatalf("%d bytes are held", held)
					}
				}
				waitFor(t, "copies that were dropped", func() bool { return a.Info().Captures[0].Holders[0].Dropped > 0 })
			})
		}
	}
}

// TestMirrorThatNeverAnswers: only so many copies are on their way; more are dropped, and
// the app goes on answering.
func TestMirrorThatNeverAnswers(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(protocol, func(t *testing.T) {
			port := http2App(t)
			a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
			tun := a.connect(t, "s")
			go func() {
				for {
					req, err := tun.AcceptFlow(context.Background())
					if err != nil {
						return
					}
					if flow, err := req.Accept(); err == nil {
						go func() { _, _ = io.Copy(io.Discard, flow) }() // reads, and is silent
					}
				}
			}()
			r := requestsOf("i", "alice", port)
			r.Rules[0].Action = api.Mirror
			mustRegister(t, tun, r)
			address := fmt.Sprintf("127.0.0.1:%d", a.CapturePorts()[0])
			transport := &http.Transport{Protocols: new(http.Protocols)}
			transport.Protocols.SetHTTP1(protocol == "HTTP/1.1")
			transport.Protocols.SetUnencryptedHTTP2(protocol == "HTTP/2")
			defer transport.CloseIdleConnections()
			const asked = maxCopying + 20
			for range asked {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-User", "alice")
				resp, err := transport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			waitFor(t, "what is too much to be dropped", func() bool { return a.Info().Captures[0].Holders[0].Dropped == asked-maxCopying })
		})
	}
}
