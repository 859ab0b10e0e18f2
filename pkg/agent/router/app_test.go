package router

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// ask sends a request of a user and returns the answer, its body read.
func ask(client net.Conn, in *bufio.Reader, user string) (*http.Response, string, error) {
	const post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nX-User: "
	if _, err := io.WriteString(client, post+user+"\r\n\r\nhi"); err != nil {
		return nil, "", err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// answers fails the test unless who it should be answers, and the connection goes on.
func answers(t *testing.T, client net.Conn, in *bufio.Reader, user, who string) {
	t.Helper()
	resp, got, err := ask(client, in, user)
	if err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	if !strings.HasPrefix(got, who+" ") || resp.Close {
		t.Errorf("%s is answered %q; it is the last answer: %v", user, got, resp.Close)
	}
}

// hearsEnd waits for the end of what one is told, which is no reset.
func hearsEnd(t *testing.T, who string, from io.Reader) {
	t.Helper()
	if b, err := io.ReadAll(from); err != nil || len(b) > 0 {
		t.Fatalf("%s hears %q, %v; want its end", who, b, err)
	}
}

// untilLast asks until an answer says that it is the last. Each request is answered, but
// for one that comes when the client has been idle for leaveClient.
func untilLast(t *testing.T, client net.Conn, in *bufio.Reader, user string) {
	t.Helper()
	for answered, end := time.Now(), time.Now().Add(time.Minute); time.Now().Before(end); answered = time.Now() {
		asked := time.Now()
		resp, got, err := ask(client, in, user)
		switch {
		case err != nil && asked.Sub(answered) >= leaveClient:
			return // told by the FIN of one that is idle
		case err != nil:
			t.Fatalf("a request is not answered: %v", err)
		case resp.Close:
			hearsEnd(t, "the client", in)
			return
		case !strings.HasPrefix(got, user+" "):
			t.Fatalf("answered %q", got)
		}
	}
	t.Fatal("no answer is the last")
}

// TestAppIsIdle: to an app a connection is idle while a handler answers. What it does
// about that is not for the client.
func TestAppIsIdle(t *testing.T) {
	for name, says := range map[string]string{"ends": "", "says so": "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			httpServer(t, s.handler, "me")
			app, err := s.app.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = app.SetDeadline(time.Now().Add(time.Minute))
			in := bufio.NewReader(s.client)
			answers(t, s.client, in, "me", "me")
			if _, err := io.WriteString(app, says); err != nil {
				t.Fatal(err)
			}
			_ = app.(*net.TCPConn).CloseWrite()
			hearsEnd(t, "the app", app)
			_ = app.Close()
			answers(t, s.client, in, "me", "me")
			httpServer(t, s.app, "app")
			for _, user := range []string{"you", "me", "you"} {
				answers(t, s.client, in, user, map[string]string{"you": "app", "me": "me"}[user])
			}
		})
	}
}

// TestAppEndsAgainAndAgain: an app that ends each connection after a request is redialed
// each time, and answers.
func TestAppEndsAgainAndAgain(t *testing.T) {
	s := newScene(t)
	httpServer(t, s.handler, "me")
	idle := make(chan *net.TCPConn)
	go func() {
		defer close(idle)
		for {
			conn, err := s.app.Accept()
			if err != nil {
				return
			}
			r, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				_ = conn.Close()
				continue
			}
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\napp ")
			idle <- conn.(*net.TCPConn)
		}
	}()
	in := bufio.NewReader(s.client)
	for range 5 {
		answers(t, s.client, in, "you", "app")
		answers(t, s.client, in, "me", "me")
		app := <-idle
		_ = app.SetDeadline(time.Now().Add(time.Minute))
		_ = app.CloseWrite()
		hearsEnd(t, "the app", app)
		_ = app.Close()
		answers(t, s.client, in, "me", "me")
	}
	_ = s.client.Close()
	_ = s.app.Close()
	for range idle {
		t.Error("the app was asked once more")
	}
}

// TestAppLeavesUnseen: an app that ends idle connections is given one more, and then its
// end is noticed all the same.
func TestAppLeavesUnseen(t *testing.T) {
	s := newScene(t)
	httpServer(t, s.handler, "me")
	in := bufio.NewReader(s.client)
	for range 2 {
		app, err := s.app.Accept()
		if err != nil {
			t.Fatal(err)
		}
		answers(t, s.client, in, "me", "me")
		_ = app.SetDeadline(time.Now().Add(time.Minute))
		_ = app.(*net.TCPConn).CloseWrite()
		hearsEnd(t, "the app", app)
		_ = app.Close()
	}
	answers(t, s.client, in, "me", "me")
	_ = s.app.Close()
	untilLast(t, s.client, in, "me")
}

// TestAppLeaves: a client that handlers answer is told that the pod ends, so that no
// request of its is lost: with an answer, or when it asks nothing.
func TestAppLeaves(t *testing.T) {
	begin := func(t *testing.T) (s *scene, in *bufio.Reader, leave func()) {
		s = newScene(t)
		leave = httpServer(t, s.app, "app")
		in = bufio.NewReader(s.client)
		return s, in, leave
	}
	t.Run("idle", func(t *testing.T) {
		s, in, leave := begin(t)
		httpServer(t, s.handler, "me")
		answers(t, s.client, in, "me", "me")
		leave()
		hearsEnd(t, "the client", in)
	})
	t.Run("busy", func(t *testing.T) {
		s, in, leave := begin(t)
		httpServer(t, s.handler, "me")
		answers(t, s.client, in, "you", "app")
		answers(t, s.client, in, "me", "me")
		leave()
		untilLast(t, s.client, in, "me")
	})
	t.Run("asked for", func(t *testing.T) {
		s, in, leave := begin(t)
		httpServer(t, s.handler, "me")
		answers(t, s.client, in, "me", "me")
		leave()
		if _, got, err := ask(s.client, in, "you"); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("answered %q, %v", got, err)
		}
	})
	t.Run("answers that keep the connection", func(t *testing.T) {
		s, _, leave := begin(t)
		var said bytes.Buffer
		in := bufio.NewReader(io.TeeReader(s.client, &said))
		go func() {
			conn, err := s.handler.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			for in := bufio.NewReader(conn); ; {
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: keep-alive, x-more\r\nKeep-Alive: timeout=5\r\nContent-Length: 3\r\n\r\nme ")
			}
		}()
		answers(t, s.client, in, "me", "me")
		leave()
		untilLast(t, s.client, in, "me")
		const want = "HTTP/1.1 200 OK\r\nConnection: x-more\r\nContent-Length: 3\r\nConnection: close\r\n\r\nme "
		if !strings.HasSuffix(said.String(), want) {
			t.Errorf("the client hears %q", said.String())
		}
	})
	t.Run("within an upload", func(t *testing.T) {
		s, in, leave := begin(t)
		begun, arrived := make(chan bool), make(chan string, 1)
		go func() {
			conn, err := s.handler.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			r, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				return
			}
			close(begun)
			first := make([]byte, 5)
			_, _ = io.ReadFull(r.Body, first)
			_, _ = io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok")
			rest, _ := io.ReadAll(r.Body)
			arrived <- string(first) + string(rest)
		}()
		if _, err := io.WriteString(s.client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nX-User: me\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-begun
		leave()
		if _, err := io.WriteString(s.client, "hello"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusAccepted {
			t.Fatalf("answered %v, %v", resp, err)
		}
		if _, err := io.WriteString(s.client, "world"); err != nil {
			t.Fatal(err)
		}
		if got := <-arrived; got != "helloworld" {
			t.Errorf("the handler got %q", got)
		}
	})
	t.Run("the app answered last", func(t *testing.T) {
		s, in, leave := begin(t)
		httpServer(t, s.handler, "me")
		answers(t, s.client, in, "me", "me")
		answers(t, s.client, in, "you", "app")
		leave()
		hearsEnd(t, "the client", in)
	})
}
