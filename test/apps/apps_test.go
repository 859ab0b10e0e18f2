package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a mode on a free port of 127.0.0.1 and returns its address; the
// test's end is its SIGTERM, and waits for it.
func start(t *testing.T, args ...string) string {
	t.Helper()
	addr, stop := startMode(t, args...)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("%s ended: %v", args[0], err)
		}
	})
	return addr
}

func startMode(t *testing.T, args ...string) (addr string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	logR, logW := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, append(args[:1:1], append([]string{"-addr", "127.0.0.1:0"}, args[1:]...)...), strings.NewReader(""), io.Discard, logW)
		_ = logW.Close()
		ended <- err
	}()
	found := make(chan string, 1)
	logRead := make(chan struct{})
	go func() {
		defer close(logRead)
		var log bytes.Buffer
		buf := make([]byte, 1024)
		for {
			n, err := logR.Read(buf)
			log.Write(buf[:n])
			if _, rest, ok := strings.Cut(log.String(), "listening on "); ok && strings.Contains(rest, "\n") {
				select {
				case found <- strings.TrimSpace(rest[:strings.Index(rest, "\n")]):
				default:
				}
			}
			if err != nil {
				return
			}
		}
	}()
	select {
	case addr = <-found:
	case err := <-ended:
		cancel()
		t.Fatalf("%s ended at once: %v", args[0], err)
	}
	return addr, func() error {
		cancel()
		err := <-ended
		<-logRead
		return err
	}
}

func get[T any](t *testing.T, url string) T {
	t.Helper()
	var v T
	client := newClient()
	defer client.CloseIdleConnections()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		t.Fatalf("GET %s: %s: %v", url, resp.Status, err)
	}
	return v
}

func TestHTTPEcho(t *testing.T) {
	t.Setenv("POD_NAME", "front-1")
	t.Setenv("VERSION", "v7")
	base := "http://" + start(t, "http")
	echo := get[api.Echo](t, base+"/some/path?x=1")
	if echo.Pod != "front-1" || echo.Version != "v7" || echo.Path != "/some/path" || echo.Query != "x=1" || echo.Method != "GET" {
		t.Errorf("echo = %+v", echo)
	}
	if host, _, _ := net.SplitHostPort(echo.Remote); host != "127.0.0.1" {
		t.Errorf("remote = %q", echo.Remote)
	}
	if "http://"+echo.Local != base {
		t.Errorf("local = %q, want %q", echo.Local, base)
	}
	client := newClient()
	defer client.CloseIdleConnections()
	resp, err := client.Get(base + "/x?format=text")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if !strings.HasPrefix(string(text), "front-1 v7: GET /x from 127.0.0.1:") {
		t.Errorf("text = %q", text)
	}
}

func TestHTTPOverH2C(t *testing.T) {
	base := "http://" + start(t, "http")
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	out := call(t.Context(), &http.Client{Transport: transport}, callRequest{url: base + "/sink", bytes: 3 << 20})
	var sum api.Sum
	if err := json.Unmarshal([]byte(out.Body), &sum); err != nil {
		t.Fatalf("%+v: %v", out, err)
	}
	if out.Proto != "HTTP/2.0" || sum != api.ContentSum(3<<20) {
		t.Errorf("proto %s, sum %+v", out.Proto, sum)
	}
}

func TestHTTPBodies(t *testing.T) {
	base := "http://" + start(t, "http")
	client := newClient()
	defer client.CloseIdleConnections()
	for _, n := range []int64{0, 1, 65520, 65521, 65522, 5_000_000} {
		down := call(t.Context(), client, callRequest{url: base + "/big?bytes=" + jsonString(n)})
		if want := api.ContentSum(n); down.Got != want {
			t.Errorf("down %d: got %+v, want %+v", n, down.Got, want)
		}
		up := call(t.Context(), client, callRequest{url: base + "/sink", bytes: n, method: "PUT"})
		var sum api.Sum
		if err := json.Unmarshal([]byte(up.Body), &sum); err != nil {
			t.Fatalf("up %d: %+v: %v", n, up, err)
		}
		if want := api.ContentSum(n); sum != want {
			t.Errorf("up %d: got %+v, want %+v", n, sum, want)
		}
	}
}

func jsonString(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func TestHTTPStatus(t *testing.T) {
	handler := newMux(identity{}, newClient(), &sockets{})
	for path, want := range map[string]int{
		"/healthz":        200,
		"/status/503":     503,
		"/status/42":      400,
		"/big":            400,
		"/big?bytes=-1":   400,
		"/delay?for=1ms":  200,
		"/delay?for=soon": 400,
		"/call?bytes=x":   400,
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}

func TestChain(t *testing.T) {
	t.Setenv("VERSION", "v1")
	t.Setenv("POD_NAME", "store")
	store := start(t, "http")
	t.Setenv("POD_NAME", "back")
	t.Setenv("NEXT", "http://"+store)
	back := start(t, "http")
	t.Setenv("POD_NAME", "front")
	t.Setenv("NEXT", "http://"+back)
	front := start(t, "http")

	got := get[api.Hop](t, "http://"+front+"/chain")
	if s := jsonString(got); s != `{"pod":"front","version":"v1","next":{"pod":"back","version":"v1","next":{"pod":"store","version":"v1"}}}` {
		t.Errorf("chain = %s", s)
	}

	t.Setenv("NEXT", "http://127.0.0.1:1")
	broken := get[api.Hop](t, "http://"+start(t, "http")+"/chain")
	if broken.Next != nil || !strings.Contains(broken.Error, "refused") {
		t.Errorf("broken chain = %+v", broken)
	}
}

func TestCall(t *testing.T) {
	base := "http://" + start(t, "http")
	outer := get[api.Call](t, base+"/call?url="+base+"/sink&bytes=100000&header=X-User:alice&header=Host:shop.example")
	if !outer.OK() || outer.Sent != api.ContentSum(100000) || !strings.Contains(outer.Body, outer.Sent.SHA256) {
		t.Errorf("call = %+v", outer)
	}
	echoed := get[api.Call](t, base+"/call?url="+base+"/&method=DELETE&header=X-User:alice&header=Host:shop.example")
	var echo api.Echo
	if err := json.Unmarshal([]byte(echoed.Body), &echo); err != nil {
		t.Fatal(err)
	}
	if echo.Method != "DELETE" || echo.Headers.Get("X-User") != "alice" || echo.Host != "shop.example" {
		t.Errorf("echo = %+v", echo)
	}
	failed := get[api.Call](t, base+"/call?url=http://127.0.0.1:1/")
	if failed.OK() || !strings.Contains(failed.Error, "refused") {
		t.Errorf("refused call = %+v", failed)
	}
}

func TestLoad(t *testing.T) {
	t.Setenv("POD_NAME", "p")
	t.Setenv("VERSION", "v1")
	base := "http://" + start(t, "http")
	load := func(url string) (api.Load, error) {
		var out bytes.Buffer
		err := run(t.Context(), []string{"load", "-count", "30", "-workers", "3", "-for", "1m", url}, strings.NewReader(""), &out, io.Discard)
		var l api.Load
		if e := json.Unmarshal(out.Bytes(), &l); e != nil {
			t.Fatalf("%s: %v", out.Bytes(), e)
		}
		return l, err
	}
	if l, err := load(base + "/"); err != nil || l.Requests != 30 || l.Answers["p v1"] != 30 {
		t.Errorf("load = %+v, %v", l, err)
	}
	if l, err := load(base + "/status/500"); err == nil || l.Failed != 30 || len(l.Failures) != 20 {
		t.Errorf("failing load = %+v, %v", l, err)
	}
}

func TestLoadTracesUntilInputEnds(t *testing.T) {
	t.Setenv("POD_NAME", "p")
	base := "http://" + start(t, "http")
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(t.Context(), []string{"load", "-for", "1m", "-stdin", "-trace", base + "/"}, inR, outW, io.Discard)
		_ = outW.Close()
	}()
	lines := json.NewDecoder(outR)
	var first api.Sample
	if err := lines.Decode(&first); err != nil || first.By != "p " || first.Failure != "" || first.Begin.IsZero() {
		t.Errorf("first sample = %+v, %v", first, err)
	}
	_ = inW.Close()
	if _, err := io.Copy(io.Discard, outR); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestHeld: what a held mode says ends by NUL, and the mode waits until it was read.
func TestHeld(t *testing.T) {
	url := "http://" + start(t, "http") + "/status/500"
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(t.Context(), []string{"held", "load", "-for", "1m", "-stdin", url}, inR, outW, io.Discard)
	}()
	if _, err := io.WriteString(inW, "\n"); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(outR).ReadString(0)
	var l api.Load
	if err != nil || json.Unmarshal([]byte(strings.TrimSuffix(said, "\x00")), &l) != nil {
		t.Errorf("said %q, %v", said, err)
	}
	select {
	case err := <-ended:
		t.Errorf("ended before that was read: %v", err)
	default:
	}
	_ = inW.Close()
	if err := <-ended; (err != nil) != (l.Failed > 0) {
		t.Errorf("%d requests failed, and it ends with %v", l.Failed, err)
	}
}

func TestWebSocket(t *testing.T) {
	addr, stop := startMode(t, "http")
	conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+addr+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	message := strings.Repeat("tele", 50_000)
	if err := conn.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
		t.Fatal(err)
	}
	if _, got, err := conn.ReadMessage(); err != nil || string(got) != message {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("at shutdown: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A request that has begun is answered after SIGTERM, a new one is refused.
func TestHTTPDrains(t *testing.T) {
	addr, stop := startMode(t, "http")
	pr, pw := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/sink", pr)
	if err != nil {
		t.Fatal(err)
	}
	// The body is read from pr only when the handler has begun to read it.
	req.Header.Set("Expect", "100-continue")
	transport := &http.Transport{ExpectContinueTimeout: time.Minute}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	answered := make(chan int, 1)
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			answered <- 0
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		answered <- resp.StatusCode
	}()
	if _, err := pw.Write([]byte("begun")); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	waitRefused(t, addr)
	if _, err := pw.Write([]byte(", ended")); err != nil {
		t.Fatal(err)
	}
	_ = pw.Close()
	if code := <-answered; code != 200 {
		t.Errorf("the request that had begun was answered %d", code)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// waitRefused returns when addr no longer accepts.
func waitRefused(t *testing.T, addr string) {
	t.Helper()
	for start := time.Now(); time.Since(start) < 10*time.Second; {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		_ = conn.Close()
	}
	t.Fatalf("%s still accepts", addr)
}

func TestRunRefuses(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"dance"},
		{"http", "-addr", "nowhere"},
		{"sleep"},
		{"sleep", "long"},
		{"call"},
		{"load"},
		{"load", "-workers", "0", "http://127.0.0.1:1/"},
		{"udp", "-addr", "127.0.0.1:x"},
	} {
		if err := run(t.Context(), args, strings.NewReader(""), io.Discard, io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
	for _, args := range [][]string{{"true"}, {"sleep", "0"}, {"sleep", "1ms"}} {
		if err := run(t.Context(), args, strings.NewReader(""), io.Discard, io.Discard); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
}
