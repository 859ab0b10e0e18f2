package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router"
	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router/h2"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// requestsOf takes the requests with a user's header.
func requestsOf(id, user string, port uint16) api.Registration {
	r := take(id, port)
	r.Rules[0].Match = []api.Condition{{On: api.OnHeader, Name: "x-user", Test: api.Equals, Value: user}}
	return r
}

// answers makes a session answer every request that it is offered with its name.
func answers(tun *tunnel.Tunnel, name string) {
	go func() {
		for {
			req, err := tun.AcceptFlow(context.Background())
			if err != nil {
				return
			}
			go func() {
				flow, err := req.Accept()
				if err != nil {
					return
				}
				defer func() { _ = flow.Close() }()
				for in := bufio.NewReader(flow); ; {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = fmt.Fprintf(flow, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(name), name)
				}
			}()
		}
	}()
}

// askAs sends a request of a user on a connection and returns who answers.
func askAs(t testing.TB, conn net.Conn, in *bufio.Reader, user string) string {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: a\r\nX-User: %s\r\n\r\n", user); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// httpApp is an app that answers "app".
func httpApp(t testing.TB) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "app")
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return portOf(l.Addr())
}

// TestDrainOfAHandlersClient: a client that a handler answers is told of the end of the
// pod, though the app never heard of it, and loses no request.
func TestDrainOfAHandlersClient(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	app := &http.Server{ReadHeaderTimeout: time.Minute}
	go func() { _ = app.Serve(l) }()
	port := portOf(l.Addr())
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}, DrainLimit: time.Minute, DrainPoll: 10 * time.Millisecond})
	alice := a.connect(t, "alice")
	answers(alice, "alice")
	mustRegister(t, alice, requestsOf("i", "alice", port))
	conn, err := net.Dial("tcp", a.capturePort())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	if who := askAs(t, conn, in, "alice"); who != "alice" {
		t.Fatalf("answered by %s", who)
	}
	a.end()
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; {
		if _, err := fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nX-User: alice\r\n\r\nhi"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("a request is not answered: %v", err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "alice" {
			t.Fatalf("answered by %q, %v", b, err)
		}
		if resp.Close {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the client is not told")
		}
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("then comes %v", err)
	}
	_ = conn.Close()
	a.waitEnd(t)
}

// TestRequestsOfSeveralSessions: requests of one kept-alive connection are divided
// by the rules that are in force at the time, narrower ones first.
func TestRequestsOfSeveralSessions(t *testing.T) {
	port := httpApp(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
	alice, bob, carol := a.connect(t, "alice"), a.connect(t, "bob"), a.connect(t, "carol")
	answers(alice, "alice")
	answers(bob, "bob")
	answers(carol, "carol")
	mustRegister(t, alice, requestsOf("i", "alice", port))

	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", a.CapturePorts()[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	check := func(want string) {
		t.Helper()
		var got []string
		for _, user := range []string{"alice", "bob", "nobody", "alice"} {
			got = append(got, askAs(t, conn, in, user))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("answered by %s, want %s", got, want)
		}
	}
	check("alice app app alice")
	global := mustRegister(t, carol, take("k", port))
	check("alice carol carol alice")
	mustRegister(t, bob, requestsOf("j", "bob", port))
	check("alice bob carol alice")
	_, err = register(t, carol, requestsOf("l", "bob", port))
	refusedFor(t, err, tunnel.Conflict, "whose requests (x-user=bob) are among or contain these (x-user=bob)")
	_ = global.Close()
	waitFor(t, "carol has left", func() bool { return len(a.reg.holders(api.Port{Number: port})) == 2 })
	check("alice bob app alice")
	_ = alice.Close()
	waitFor(t, "alice is gone", func() bool { return len(a.reg.holders(api.Port{Number: port})) == 1 })
	check("app bob app app")
	if h := a.reg.holders(api.Port{Number: port})[0]; h.Taken != 3 {
		t.Errorf("bob has taken %d requests, not 3", h.Taken)
	}
}

// TestTooManyToLookInto: what is beyond the bound goes to the app, counted.
func TestTooManyToLookInto(t *testing.T) {
	port := httpApp(t)
	const most = 20
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}, MaxRouted: most})
	alice := a.connect(t, "alice")
	answers(alice, "alice")
	mustRegister(t, alice, requestsOf("i", "alice", port))
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", a.CapturePorts()[0]))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	var idle []net.Conn
	for range most {
		idle = append(idle, dial())
	}
	routed := &a.captures.list()[0].(*capture).routed
	waitFor(t, "all are looked into", func() bool { return routed.Load() == most })
	conn := dial()
	if by := askAs(t, conn, bufio.NewReader(conn), "alice"); by != "app" {
		t.Errorf("answered by %s", by)
	}
	if n := a.Info().Captures[0].Opaque[string(router.TooMany)]; n != 1 {
		t.Errorf("%d connections were too many, not 1", n)
	}
	// What is opaque does not count any more.
	if _, err := io.WriteString(idle[0], "\x00"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "there is room", func() bool { return routed.Load() < most })
	conn = dial()
	if by := askAs(t, conn, bufio.NewReader(conn), "alice"); by != "alice" {
		t.Errorf("answered by %s", by)
	}
}

// TestRefuse: while a handler does not answer, requests are refused where that was
// asked for, and only until its session is gone.
func TestRefuse(t *testing.T) {
	for _, user := range []string{"", "alice"} {
		t.Run("requests of "+user, func(t *testing.T) {
			port := httpApp(t)
			a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
			tun := a.connect(t, "s")
			r := take("i", port)
			if user != "" {
				r = requestsOf("i", user, port)
			}
			r.Rules[0].Down = api.Refuse
			mustRegister(t, tun, r)
			go func() {
				for {
					req, err := tun.AcceptFlow(context.Background())
					if err != nil {
						return
					}
					_ = req.Refuse(tunnel.Refused, "the handler does not answer")
				}
			}()
			address := fmt.Sprintf("127.0.0.1:%d", a.CapturePorts()[0])
			get := func(user string) string {
				client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+address, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-User", user)
				resp, err := client.Do(req)
				if err != nil {
					return "reset"
				}
				defer func() { _ = resp.Body.Close() }()
				b, _ := io.ReadAll(resp.Body)
				return fmt.Sprintf("%d %s", resp.StatusCode, strings.TrimSpace(string(b)))
			}
			want := "503 " + h2.NobodyAnswers
			if user == "" {
				want = "reset"
			}
			if got := get("alice"); got != want {
				t.Errorf("answered %q, want %q", got, want)
			}
			if user != "" {
				if got := get("bob"); got != "200 app" {
					t.Errorf("a request that is not meant is answered %q", got)
				}
			}
			_ = tun.Close()
			waitFor(t, "the app again", func() bool { return get("alice") == "200 app" })
		})
	}
}

// TestRouteWithoutApp: who takes all traffic goes on when another asks for requests of his own,
// though the app, without which nothing can be looked into, does not listen.
func TestRouteWithoutApp(t *testing.T) {
	l, err := net.Listen("tcp", podIP.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	port := portOf(l.Addr())
	_ = l.Close()
	a := startAgent(t, Config{Captures: []api.Capture{{App: port}}})
	bob, alice := a.connect(t, "bob"), a.connect(t, "alice")
	mustRegister(t, bob, take("bob", port))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	mustRegister(t, alice, requestsOf("alice", "alice", port))
	client, err := net.Dial("tcp", a.capturePort())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	r, err := bob.AcceptFlow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	flow, err := r.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := flow.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	_ = client.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(client, b); err != nil || string(b) != "hello" {
		t.Errorf("the client reads %q, %v", b, err)
	}
	_ = flow.Close()
}
