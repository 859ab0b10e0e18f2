package router

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router/h2"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a relay between a client and an app, and a handler for the requests with
// the header x-user: me.
type scene struct {
	t       *testing.T
	client  *net.TCPConn
	app     net.Listener
	handler net.Listener
	refuses bool // nobody answers in place of the handler
	ended   chan error
	once    sync.Once // for ended

	mu     sync.Mutex
	opaque []Opacity
}

// side is a taker with a handler at an address.
type side struct {
	address string
	refuses bool
}

func (s side) Open(ctx context.Context) (splice.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

func (s side) Taken() {}

func (s side) Refuses() bool { return s.refuses }

func (s side) Ended() <-chan struct{} { return nil }

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, app: listen(t), handler: listen(t), ended: make(chan error, 1)}
	front := listen(t)
	mine, err := NewMatch([]api.Condition{{On: api.OnHeader, Name: "X-User", Test: api.Equals, Value: "me"}})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := front.Accept()
		if err != nil {
			s.ended <- err
			return
		}
		s.ended <- Serve(context.Background(), conn.(*net.TCPConn), Config{
			Pick: func(r Subject) Taker {
				if r.Matches(mine) {
					return side{s.handler.Addr().String(), s.refuses}
				}
				return nil
			},
			DialApp: side{s.app.Addr().String(), false}.Open,
			Opaque: func(why Opacity) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.opaque = append(s.opaque, why)
			},
			Held: h2.NewBudget(8 << 20), // as agents have
			Log:  slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
	}()
	conn, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.client = conn.(*net.TCPConn)
	_ = s.client.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(s.end)
	return s
}

// end closes the client and waits for the end of the relay.
func (s *scene) end() {
	_ = s.client.Close()
	s.once.Do(func() {
		select {
		case err := <-s.ended:
			s.t.Logf("the relay ended: %v", err)
		case <-time.After(time.Minute):
			s.t.Error("the relay does not end")
		}
	})
}

// why ends the connection and returns why it was opaque, "" if it was not.
func (s *scene) why() Opacity {
	s.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.opaque) > 1 {
		s.t.Errorf("opaque %d times: %v", len(s.opaque), s.opaque)
	}
	if len(s.opaque) == 0 {
		return ""
	}
	return s.opaque[0]
}

// serveRaw answers each connection with text, after it has read until the client's
// FIN, and sends what it read to the channel.
func serveRaw(l net.Listener, text string) <-chan string {
	got := make(chan string, 8)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				b, _ := io.ReadAll(conn)
				_, _ = io.WriteString(conn, text)
				got <- string(b)
			}()
		}
	}()
	return got
}

// httpServer answers with its name and what was asked.
func httpServer(t *testing.T, l net.Listener, name string) (end func()) {
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s %q", name, r.Method, r.URL, b)
	})}
	go func() { _ = server.Serve(l) }()
	end = func() { _ = server.Close() }
	t.Cleanup(end)
	return end
}

// TestUnmatchedIsUntouched: what no rule takes reaches the app byte for byte, and
// the answer likewise, whatever it is.
func TestUnmatchedIsUntouched(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
	get := "GET / HTTP/1.1\r\nHost: a\r\n"
	for name, tc := range map[string]struct {
		request, answer string
		opaque          Opacity
	}{
		"plain":                {get + "\r\n", ok, ""},
		"odd case and order":   {"GET /x?b=1&a=%2f HTTP/1.1\r\nzz: 1\r\nhOsT: a\r\nACCEPT:*/*\r\nx:  spaced \t\r\n\r\n", ok, ""},
		"duplicate fields":     {get + "X: 1\r\nx: 2\r\nX: 1\r\n\r\n", ok, ""},
		"empty value":          {get + "X:\r\nY: \r\n\r\n", ok, ""},
		"latin1 value":         {get + "X: \xe9\r\n\r\n", ok, ""},
		"body":                 {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", ok, ""},
		"chunks":               {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n000\r\nT: 1\r\n\r\n", ok, ""},
		"HEAD":                 {"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", ""},
		"204":                  {get + "\r\n", "HTTP/1.1 204 No Content\r\n\r\n", ""},
		"304":                  {get + "\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", ""},
		"1xx":                  {get + "\r\n", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + ok, ""},
		"until the end":        {get + "\r\n", "HTTP/1.1 200 OK\r\n\r\nall of it", ""},
		"no reason":            {get + "\r\n", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", ""},
		"blank after size":     {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0;x \t\r\n\r\n", ok, ""},
		"chunked answer":       {get + "\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n", ""},
		"1.0":                  {"GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nold", ""},
		"1.0 keep-alive":       {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx", ""},
		"h2c offer":            {get + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", ok, ""},
		"unknown upgrade":      {get + "Connection: upgrade\r\nUpgrade: frob/2\r\n\r\n", ok, ""},
		"101":                  {get + "Connection: upgrade\r\nUpgrade: frob\r\n\r\n", "HTTP/1.1 101 Switching\r\nUpgrade: frob\r\n\r\n\x00\x01raw", Tunnelled},
		"large head":           {get + "X: " + strings.Repeat("x", 60<<10) + "\r\n\r\n", ok, ""},
		"1 MiB head":           {get + "X: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", ok, TooLong},
		"folded":               {get + "X: 1\r\n 2\r\n\r\n", ok, Ambiguous},
		"bare LF":              {"GET / HTTP/1.1\nHost: a\n\n", ok, Ambiguous},
		"mixed line ends":      {"GET / HTTP/1.1\r\nHost: a\n\r\n", ok, Ambiguous},
		"space before colon":   {get + "Content-Length : 5\r\n\r\nhello", ok, Ambiguous},
		"length and chunked":   {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ok, Ambiguous},
		"two lengths":          {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", ok, Ambiguous},
		"signed length":        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", ok, Ambiguous},
		"gzip, chunked":        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ok, Ambiguous},
		"chunked on 1.0":       {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ok, Ambiguous},
		"a K that is none":     {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chun\u212aed\r\n\r\n0\r\n\r\n", ok, Ambiguous},
		"many fields":          {get + strings.Repeat("a:\r\n", 300) + "\r\n", ok, TooLong},
		"many parameters":      {"GET /?" + strings.Repeat("a&", 300) + " HTTP/1.1\r\nHost: a\r\n\r\n", ok, TooLong},
		"another protocol":     {"get key\r\n", "END\r\n", NotHTTP},
		"blank, extension":     {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 ;a=b\r\nhello\r\n0\r\n\r\n", ok, Ambiguous},
		"long extensions":      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("x", 3000)+"\r\na\r\n", 6) + "0\r\n\r\n", ok, Ambiguous},
		"length as trailer":    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: T, content-length\r\n\r\n0\r\nContent-Length: 3\r\n\r\n", ok, Ambiguous},
		"bad chunk":            {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", ok, Ambiguous},
		"LF in chunk line":     {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", ok, Ambiguous},
		"no host":              {"GET / HTTP/1.1\r\n\r\n", ok, Ambiguous},
		"two hosts":            {get + "Host: b\r\n\r\n", ok, Ambiguous},
		"absolute form":        {"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", ok, Ambiguous},
		"CONNECT":              {"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", ok, Ambiguous},
		"two spaces":           {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", ok, Ambiguous},
		"bad escape":           {"GET /100% HTTP/1.1\r\nHost: a\r\n\r\n", ok, Ambiguous},
		"leading CRLF":         {"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", ok, NotHTTP},
		"HTTP/1.2":             {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", ok, Ambiguous},
		"TLS":                  {"\x16\x03\x01\x00\x05hello", "\x15\x03\x01", TLS},
		"no HTTP":              {"\x00\x01\x02", "\x03", NotHTTP},
		"half a head":          {"GET / HT", "nothing", NotHTTP},
		"half a body":          {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhello", ok, Ambiguous},
		"answer with both":     {get + "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Ambiguous},
		"answer that is none":  {get + "\r\n", "220 mail.example.com ESMTP\r\n", Ambiguous},
		"answer with a folded": {get + "\r\n", "HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 0\r\n\r\n", Ambiguous},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			got := serveRaw(s.app, tc.answer)
			go func() {
				_, _ = io.WriteString(s.client, tc.request)
				_ = s.client.CloseWrite()
			}()
			answer, err := io.ReadAll(s.client)
			if err != nil || string(answer) != tc.answer {
				t.Errorf("answered %.200q, %v; want %.200q", answer, err, tc.answer)
			}
			if request := <-got; request != tc.request {
				t.Errorf("the app got %.200q, not %.200q", request, tc.request)
			}
			if why := s.why(); why != tc.opaque {
				t.Errorf("opaque: %q, want %q", why, tc.opaque)
			}
		})
	}
}

// TestEachRequestGoesWhereItShould on one connection, kept alive and pipelined.
func TestEachRequestGoesWhereItShould(t *testing.T) {
	for _, pipelined := range []bool{false, true} {
		t.Run(fmt.Sprintf("pipelined %v", pipelined), func(t *testing.T) {
			s := newScene(t)
			httpServer(t, s.app, "app")
			httpServer(t, s.handler, "me")
			answers := bufio.NewReader(s.client)
			var wants []string
			next := func() {
				t.Helper()
				resp, err := http.ReadResponse(answers, nil)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				if err != nil || string(b) != wants[0] {
					t.Errorf("answered %q, %v; want %q", b, err, wants[0])
				}
				wants = wants[1:]
			}
			for n := range 40 {
				who, field := "app", ""
				if n%3 == 1 || n%7 == 2 {
					who, field = "me", "x-user: me\r\n"
				}
				body := strings.Repeat("b", n*1000)
				head := fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: a\r\n%s", n, field)
				if n%2 == 0 {
					head += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
				} else {
					head += fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body)+1, body+"e")
					body += "e"
				}
				wants = append(wants, fmt.Sprintf("%s POST /%d %q", who, n, body))
				if _, err := io.WriteString(s.client, head); err != nil {
					t.Fatal(err)
				}
				if !pipelined || len(wants) == 5 {
					for len(wants) > 0 {
						next()
					}
				}
			}
			for len(wants) > 0 {
				next()
			}
			if why := s.why(); why != "" {
				t.Errorf("opaque: %s", why)
			}
		})
	}
}

// TestHandlerDown: a request that its handler does not take is the app's, and so is
// a safe one that the handler did not begin to answer.
func TestHandlerDown(t *testing.T) {
	const mine = "GET /1 HTTP/1.1\r\nHost: a\r\nX-User: me\r\n\r\n"
	for name, handle := range map[string]func(net.Listener){
		"refuses": func(l net.Listener) { _ = l.Close() },
		"hangs up": func(l net.Listener) {
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Read(make([]byte, 100))
					_ = conn.Close()
				}
			}()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			httpServer(t, s.app, "app")
			handle(s.handler)
			for range 3 {
				if _, err := io.WriteString(s.client, mine); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(bufio.NewReader(s.client), nil)
				if err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(resp.Body); err != nil || string(b) != `app GET /1 ""` {
					t.Errorf("answered %q, %v", b, err)
				}
			}
		})
	}
	t.Run("half an answer", func(t *testing.T) {
		s := newScene(t)
		httpServer(t, s.app, "app")
		go func() {
			conn, err := s.handler.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 100))
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
			_ = conn.Close()
		}()
		if _, err := io.WriteString(s.client, mine); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(s.client); err == nil {
			t.Errorf("half an answer ends well: %q", b)
		}
	})
}

// TestUpgradeAtHandler: a handler that switches protocols has the connection.
func TestUpgradeAtHandler(t *testing.T) {
	s := newScene(t)
	httpServer(t, s.app, "app")
	go func() {
		conn, err := s.handler.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, conn)
	}()
	_, err := io.WriteString(s.client, "GET / HTTP/1.1\r\nHost: a\r\nX-User: me\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(s.client)
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v, %v", resp, err)
	}
	for range 3 {
		if _, err := io.WriteString(s.client, "GET / HTTP/1.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(io.LimitReader(in, 18)); err != nil || string(b) != "GET / HTTP/1.1\r\n\r\n" {
			t.Errorf("echoed %q, %v", b, err)
		}
	}
	if why := s.why(); why != "" {
		t.Errorf("opaque: %s", why)
	}
}

// TestServerSpeaksFirst: a banner does not wait for the client.
func TestServerSpeaksFirst(t *testing.T) {
	s := newScene(t)
	go func() {
		conn, err := s.app.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "220 hello\r\n")
		_, _ = io.Copy(conn, conn)
	}()
	in := bufio.NewReader(s.client)
	if line, err := in.ReadString('\n'); err != nil || line != "220 hello\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := io.WriteString(s.client, "GET / HTTP/1.1\r\nX-User: me\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := in.ReadString('\n'); err != nil || line != "GET / HTTP/1.1\r\n" {
		t.Errorf("%q, %v", line, err)
	}
	if why := s.why(); why != Unasked {
		t.Errorf("opaque: %q", why)
	}
}

// TestClientGoes: the app sees a client that goes while it works.
func TestClientGoes(t *testing.T) {
	s := newScene(t)
	gone := make(chan error, 1)
	go func() {
		conn, err := s.app.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			gone <- err
			return
		}
		_, err = conn.Read(make([]byte, 1))
		gone <- err
	}()
	if _, err := io.WriteString(s.client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = s.client.SetLinger(0)
	time.AfterFunc(100*time.Millisecond, func() { _ = s.client.Close() })
	select {
	case err := <-gone:
		if err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("the app reads %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the app does not see that the client has gone")
	}
}

// TestAppDiesInABody: a client that has not sent all sees that the app has gone.
func TestAppDiesInABody(t *testing.T) {
	s := newScene(t)
	go func() {
		conn, err := s.app.Accept()
		if err != nil {
			return
		}
		in := bufio.NewReader(conn)
		if req, err := http.ReadRequest(in); err == nil {
			_, _ = io.ReadFull(req.Body, make([]byte, 3))
		}
		_ = splice.Reset(conn.(*net.TCPConn))
	}()
	if _, err := io.WriteString(s.client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	_ = s.client.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := s.client.Read(make([]byte, 1)); n > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client reads %d bytes, %v", n, err)
	}
}

// TestHandlerThatCannotBeFollowed does not get what comes after it: other requests
// of the connection are other people's.
func TestHandlerThatCannotBeFollowed(t *testing.T) {
	const mine = "POST / HTTP/1.1\r\nHost: a\r\nX-User: me\r\n"
	for name, tc := range map[string]struct{ request, answer, got string }{
		"answer":  {mine + "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", mine + "\r\n"},
		"request": {mine + "Transfer-Encoding: chunked\r\n\r\n2\r\nokXX", "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", mine + "Transfer-Encoding: chunked\r\n\r\n2\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			httpServer(t, s.app, "app")
			got := make(chan string, 1)
			go func() {
				conn, err := s.handler.Accept()
				if err != nil {
					return
				}
				defer func() { _ = conn.Close() }()
				b := make([]byte, len(tc.got))
				_, _ = io.ReadFull(conn, b)
				_, _ = io.WriteString(conn, tc.answer)
				rest, _ := io.ReadAll(conn)
				got <- string(b) + string(rest)
			}()
			go func() { _, _ = io.WriteString(s.client, tc.request+"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n") }()
			if b, err := io.ReadAll(s.client); err != nil || string(b) != tc.answer {
				t.Errorf("answered %q, %v", b, err)
			}
			if request := <-got; !strings.HasPrefix(request, tc.got) || strings.Contains(request, "secret") {
				t.Errorf("the handler got %q", request)
			}
		})
	}
}

// TestNothingAfterTheEnd: what is pipelined behind the last request of a connection
// is not carried out by anybody, for nobody can be told of it.
func TestNothingAfterTheEnd(t *testing.T) {
	for _, user := range []string{"me", "other"} {
		t.Run(user, func(t *testing.T) {
			s := newScene(t)
			ran := make(chan string, 8)
			go func() {
				for {
					conn, err := s.app.Accept()
					if err != nil {
						return
					}
					go func() {
						defer func() { _ = conn.Close() }()
						r, err := http.ReadRequest(bufio.NewReader(conn))
						if err != nil {
							return
						}
						ran <- r.URL.Path
						_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
					}()
				}
			}()
			httpServer(t, s.handler, "me")
			requests := "POST /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nX-User: " + user + "\r\n\r\n"
			if _, err := io.WriteString(s.client, requests); err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(s.client) // the app may reset what it did not read
			if strings.Contains(string(b), "me POST") {
				t.Errorf("answered %q", b)
			}
			s.end()
			close(ran)
			for path := range ran {
				if path != "/1" {
					t.Errorf("the app carried out %s", path)
				}
			}
		})
	}
}

// TestHandlerAnswersEarly: a handler that answers instead of asking for the body
// does not get the next request as one, and its end is the client's.
func TestHandlerAnswersEarly(t *testing.T) {
	for name, answer := range map[string]string{
		"goes on": "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n",
		"ends":    "HTTP/1.1 401 Unauthorized\r\n\r\nno",
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			httpServer(t, s.app, "app")
			rest := make(chan string, 1)
			go func() {
				conn, err := s.handler.Accept()
				if err != nil {
					return
				}
				in := bufio.NewReader(conn)
				if _, err := http.ReadRequest(in); err != nil {
					return
				}
				_, _ = io.WriteString(conn, answer)
				if name == "ends" {
					_ = conn.(*net.TCPConn).CloseWrite()
				}
				b, _ := io.ReadAll(in)
				_ = conn.Close()
				rest <- string(b)
			}()
			const head = "POST / HTTP/1.1\r\nHost: a\r\nX-User: me\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
			if _, err := io.WriteString(s.client, head); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(io.LimitReader(s.client, int64(len(answer)))); err != nil || string(b) != answer {
				t.Fatalf("answered %q, %v", b, err)
			}
			_, _ = io.WriteString(s.client, "GET /secret HTTP/1.1\r\nHost: a\r\n\r\n")
			if b, err := io.ReadAll(s.client); err == nil && len(b) > 0 {
				t.Errorf("then came %q", b)
			}
			s.end()
			if b := <-rest; strings.Contains(b, "GET") {
				t.Errorf("the handler got %q", b)
			}
		})
	}
}

// TestSpokenInTheMeantime: an app that speaks just before it is asked is not waited
// for: what it says then cannot be told from the answer.
func TestSpokenInTheMeantime(t *testing.T) {
	u := &upstream{relay: &relay{}, app: true}
	if u.expected() != nil {
		t.Fatal("something is expected")
	}
	ex := &exchange{done: make(chan struct{})}
	u.expect(ex)
	if !ex.over() || ex.opaque != Unasked {
		t.Errorf("over %v, opaque %q", ex.over(), ex.opaque)
	}
	gone := &upstream{relay: &relay{}, gone: true}
	ex = &exchange{done: make(chan struct{})}
	gone.expect(ex)
	if !ex.over() || ex.err == nil {
		t.Errorf("over %v, error %v", ex.over(), ex.err)
	}
}

// conversation plays lines of the form {end, text}: what an end says, the other waits
// for. An empty text is its FIN.
func conversation(t *testing.T, client, app *net.TCPConn, lines ...[2]string) {
	t.Helper()
	ends := map[string]*net.TCPConn{"client": client, "app": app}
	for n, l := range lines {
		other := ends[map[string]string{"client": "app", "app": "client"}[l[0]]]
		if l[1] == "" {
			_ = ends[l[0]].CloseWrite()
			if k, err := other.Read(make([]byte, 1)); k > 0 || !errors.Is(err, io.EOF) {
				t.Fatalf("line %d: the FIN of the %s is heard as %d bytes, %v", n, l[0], k, err)
			}
			continue
		}
		if _, err := io.WriteString(ends[l[0]], l[1]); err != nil {
			t.Fatalf("line %d: %v", n, err)
		}
		heard := make([]byte, len(l[1]))
		if _, err := io.ReadFull(other, heard); err != nil || string(heard) != l[1] {
			t.Fatalf("line %d of the %s is heard as %q, %v; want %q", n, l[0], heard, err, l[1])
		}
	}
}

// TestConversations that end where nobody expects it: each end hears the other as if
// nobody stood between.
func TestConversations(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: a\r\n"
	for name, lines := range map[string][][2]string{
		"the app ends within a body":        {{"client", post + "Content-Length: 10\r\n\r\nhello"}, {"app", ""}, {"client", "world"}},
		"the app ends within its answer":    {{"client", post + "Content-Length: 10\r\n\r\nhello"}, {"app", "HTTP/1.1 200 OK\r\nContent-Le"}, {"app", ""}, {"client", "world"}},
		"a head that stops within its line": {{"client", post + "Content-Length: 0\r\n\r\n"}, {"app", "HTTP"}, {"client", "\x03"}, {"app", "\x04"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			app, err := s.app.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = app.Close() }()
			_ = app.SetDeadline(time.Now().Add(30 * time.Second))
			conversation(t, s.client, app.(*net.TCPConn), lines...)
			_ = app.Close()
		})
	}
}

// TestNoRestForAnother: what follows a request that an app has begun, and ended within,
// goes to no other connection of the app.
func TestNoRestForAnother(t *testing.T) {
	s := newScene(t)
	conn, err := s.app.Accept()
	if err != nil {
		t.Fatal(err)
	}
	app := conn.(*net.TCPConn)
	conversation(t, s.client, app,
		[2]string{"client", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"},
		[2]string{"app", "HTTP/1.1 102 Processing\r\n\r\n"}, [2]string{"app", ""})
	if _, err := io.WriteString(s.client, "XX\r\nGET /secret HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = s.client.CloseWrite()
	_, _ = io.Copy(io.Discard, s.client)
	_ = app.Close()
	s.end()
	_ = s.app.(*net.TCPListener).SetDeadline(time.Unix(1, 0))
	if other, err := s.app.Accept(); err == nil {
		b, _ := io.ReadAll(other)
		t.Errorf("another connection of the app got %q", b)
	}
}

// TestAllBeforeTheAnswer: an app that reads to the client's FIN before it answers gets
// all that has come, whatever it is.
func TestAllBeforeTheAnswer(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	for name, text := range map[string]string{
		"a request":           "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"a body":              "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhe",
		"more than a request": "GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n",
		"more than a body":    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhello",
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			got := serveRaw(s.app, answer)
			if _, err := io.WriteString(s.client, text); err != nil {
				t.Fatal(err)
			}
			_ = s.client.CloseWrite()
			if said, err := io.ReadAll(s.client); err != nil || string(said) != answer {
				t.Errorf("answered %q, %v", said, err)
			}
			if all := <-got; all != text {
				t.Errorf("the app got %q, not %q", all, text)
			}
		})
	}
}
