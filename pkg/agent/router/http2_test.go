package router

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router/h2"
)

// http2Server answers "WHO METHOD PATH N", N the length of the body, and as many bytes
// as the query asks for, with the trailer x-who.
func http2Server(t *testing.T, l net.Listener, who string) {
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		n, err := io.Copy(io.Discard, req.Body)
		if err != nil {
			t.Errorf("%s %s: %v", who, req.URL, err)
		}
		var more int
		_, _ = fmt.Sscan(req.URL.Query().Get("more"), &more)
		w.Header().Set("Trailer", "X-Who")
		_, _ = fmt.Fprintf(w, "%s %s %s %d\n%s", who, req.Method, req.URL.Path, n, strings.Repeat("m", more))
		w.Header().Set("X-Who", who)
	}), Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}

// http2Client speaks HTTP/2 on the scene's connection.
func http2Client(t *testing.T, s *scene) *http.Client { return http2Over(t, s.client) }

func http2Over(t *testing.T, conn net.Conn) *http.Client {
	t.Helper()
	transport := &http.Transport{
		Protocols:   new(http.Protocols),
		DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	resp, err := client.Get("http://a/") // the connection: later requests use it
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return client
}

// TestEachStreamGoesWhereItShould of many at once on one connection, with more in each
// direction than the windows.
func TestEachStreamGoesWhereItShould(t *testing.T) {
	s := newScene(t)
	http2Server(t, s.app, "app")
	http2Server(t, s.handler, "me")
	client := http2Client(t, s)
	var asked sync.WaitGroup
	for n := range 200 {
		asked.Go(func() {
			who, body, more := "app", n%11*30_000, n%7*50_000
			url := fmt.Sprintf("http://a/%d?more=%d", n, more)
			req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(make([]byte, body)))
			if err != nil {
				t.Error(err)
				return
			}
			if n%3 == 1 {
				who = "me"
				req.Header.Set("X-User", "me")
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Errorf("%d: %v", n, err)
				return
			}
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			first, rest, _ := strings.Cut(string(b), "\n")
			if want := fmt.Sprintf("%s POST /%d %d", who, n, body); first != want || len(rest) != more || err != nil {
				t.Errorf("answered %q and %d bytes, %v; want %q and %d", first, len(rest), err, want, more)
			}
			if trailer := resp.Trailer.Get("X-Who"); trailer != who {
				t.Errorf("trailer %q, want %q", trailer, who)
			}
		})
	}
	asked.Wait()
	if why := s.why(); why != "" {
		t.Errorf("opaque: %s", why)
	}
}

// TestSettingsComeWithThePreface: an app may wait for the client's before it says its
// own, or not wait long for them. They come as they are, since it may not speak HTTP/2;
// what would not do is overruled behind the client's back.
func TestSettingsComeWithThePreface(t *testing.T) {
	window := http2.Setting{ID: http2.SettingInitialWindowSize, Val: 70000}
	noPush := http2.Setting{ID: http2.SettingEnablePush}
	for name, c := range map[string]struct{ settings, overruled []http2.Setting }{
		"none":          {nil, []http2.Setting{noPush}},
		"of no concern": {[]http2.Setting{noPush, window, {ID: http2.SettingHeaderTableSize, Val: 100}}, nil},
		"too much": {
			[]http2.Setting{{ID: http2.SettingHeaderTableSize, Val: 8192}, {ID: http2.SettingMaxFrameSize, Val: 1 << 20}, window},
			[]http2.Setting{noPush, {ID: http2.SettingHeaderTableSize, Val: 4096}, {ID: http2.SettingMaxFrameSize, Val: 16 << 10}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			app, err := s.app.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = app.Close() }()
			type frame func(*http2.Framer) error
			settings := func(all []http2.Setting) frame {
				return func(f *http2.Framer) error { return f.WriteSettings(all...) }
			}
			says := func(to net.Conn, start string, frames ...frame) {
				t.Helper()
				all := bytes.NewBufferString(start)
				for _, f := range frames {
					if err := f(http2.NewFramer(all, nil)); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := to.Write(all.Bytes()); err != nil {
					t.Fatal(err)
				}
			}
			hears := func(who string, from net.Conn, start string, frames ...frame) {
				t.Helper()
				want := bytes.NewBufferString(start)
				for _, f := range frames {
					_ = f(http2.NewFramer(want, nil))
				}
				got := make([]byte, want.Len())
				_ = from.SetReadDeadline(time.Now().Add(2 * headLimit))
				if _, err := io.ReadFull(from, got); err != nil || !bytes.Equal(got, want.Bytes()) {
					t.Fatalf("%s hears %q, %v; want %q", who, got, err, want.Bytes())
				}
			}
			says(s.client, h2.Preface, settings(c.settings))
			hears("the app", app, h2.Preface, settings(c.settings))
			limits := []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 7}, {ID: http2.SettingMaxHeaderListSize, Val: 8 << 10}}
			ping := func(ack bool) frame { return func(f *http2.Framer) error { return f.WritePing(ack, [8]byte{1}) } }
			ack := frame((*http2.Framer).WriteSettingsAck)
			says(app, "", settings(limits), ack)
			hears("the client", s.client, "", settings(limits), ack)
			says(s.client, "", ping(false))
			if c.overruled != nil {
				hears("the app", app, "", settings(c.overruled))
				says(app, "", ack)
			}
			hears("the app", app, "", ping(false)) // and no settings again
			says(app, "", ping(true))
			hears("the client", s.client, "", ping(true)) // and is not told of the acknowledgement
			says(s.client, "", settings([]http2.Setting{window}))
			hears("the app", app, "", settings([]http2.Setting{noPush, window}))
			says(app, "", ack)
			hears("the client", s.client, "", ack)

			// Encoders may announce each size that they were told of before the first fields.
			head := func(block string) frame {
				return func(f *http2.Framer) error {
					return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block), EndStream: true, EndHeaders: true})
				}
			}
			const get, ok, to8192, to4096 = "\x82\x86\x84\x41\x01a", "\x88", "\x3f\xe1\x3f", "\x3f\xe1\x1f"
			says(s.client, "", head(get))
			hears("the app", app, "", head(get))
			if name == "too much" {
				says(app, "", head(to8192+to4096+ok))
				hears("the client", s.client, "", head(to4096+ok)) // it may have had less
			}
		})
	}
}

// TestAppDecidesWhetherItIsHTTP2: only where the app too speaks it are streams looked
// at; else all goes on as it was said. A line is what the client or the app sends, the
// other waits for it.
func TestAppDecidesWhetherItIsHTTP2(t *testing.T) {
	const (
		settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
		request  = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
		answer   = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
	)
	type line struct{ who, text string }
	for name, tc := range map[string]struct {
		lines  []line
		opaque []Opacity // one of them, by who is heard first
	}{
		"app speaks HTTP/1":          {[]line{{"client", h2.Preface}, {"app", answer}, {"client", "more"}, {"app", "and more"}}, []Opacity{NotHTTP}},
		"HTTP/1 after settings":      {[]line{{"client", h2.Preface + "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00"}, {"app", answer}, {"client", "more"}}, []Opacity{NotHTTP}},
		"app speaks something else":  {[]line{{"client", h2.Preface}, {"app", "\x00\x00\x00\x06\x00\x00\x00\x00\x00what"}}, []Opacity{NotHTTP}},
		"app speaks first":           {[]line{{"app", "220 hello\r\n"}, {"client", "EHLO\r\n"}, {"app", "250 ok\r\n"}}, []Opacity{Unasked}},
		"like HTTP/2, but is not":    {[]line{{"app", settings[:3] + "abc"}, {"client", "what\r\n"}, {"app", "ever"}}, []Opacity{Unasked}},
		"settings for an HTTP/1":     {[]line{{"app", settings}, {"client", request}}, []Opacity{Unasked, Ambiguous}},
		"settings for another thing": {[]line{{"app", settings}, {"client", "\x00what"}}, []Opacity{NotHTTP}},
		"almost a preface":           {[]line{{"client", h2.Preface[:20] + "XXXX"}, {"app", answer}}, []Opacity{Ambiguous}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			app, err := s.app.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = app.Close() }()
			_ = app.SetDeadline(time.Now().Add(20 * time.Second))
			ends := map[string]net.Conn{"client": s.client, "app": app}
			waits := map[string]string{} // what an end has still to hear
			for _, l := range tc.lines {
				if _, err := io.WriteString(ends[l.who], l.text); err != nil {
					t.Fatal(err)
				}
				other := map[string]string{"client": "app", "app": "client"}[l.who]
				waits[other] += l.text
				if l.text == settings {
					continue // it is kept until the client has said something
				}
				for end, text := range waits {
					heard := make([]byte, len(text))
					if _, err := io.ReadFull(ends[end], heard); err != nil || string(heard) != text {
						t.Fatalf("%s heard %q, %v; want %q", end, heard, err, text)
					}
				}
				clear(waits)
			}
			_ = app.Close()
			if why := s.why(); !slices.Contains(tc.opaque, why) {
				t.Errorf("opaque: %q, want one of %q", why, tc.opaque)
			}
		})
	}
}

// TestServerThatSpeaksFirst of HTTP/2, as those of gRPC do, and a client whose preface
// comes in pieces.
func TestServerThatSpeaksFirst(t *testing.T) {
	s := newScene(t)
	app, err := s.app.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = app.Close() }()
	appFrames, clientFrames := http2.NewFramer(app, app), http2.NewFramer(s.client, s.client)
	_ = app.SetDeadline(time.Now().Add(20 * time.Second))
	if err := appFrames.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 7}); err != nil {
		t.Fatal(err)
	}
	if err := appFrames.WriteWindowUpdate(0, 1000); err != nil {
		t.Fatal(err)
	}
	for n := range len(h2.Preface) {
		if _, err := io.WriteString(s.client, h2.Preface[n:n+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := clientFrames.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	first, err := clientFrames.ReadFrame()
	if settings, ok := first.(*http2.SettingsFrame); err != nil || !ok {
		t.Errorf("the client heard %v, %v", first, err)
	} else if most, _ := settings.Value(http2.SettingMaxConcurrentStreams); most != 7 {
		t.Errorf("the client heard %v", settings)
	}
	if second, err := clientFrames.ReadFrame(); err != nil || second.Header().Type != http2.FrameWindowUpdate {
		t.Errorf("then the client heard %v, %v", second, err)
	}
	preface := make([]byte, len(h2.Preface))
	if _, err := io.ReadFull(app, preface); err != nil || string(preface) != h2.Preface {
		t.Errorf("the app heard %q, %v", preface, err)
	}
	if first, err := appFrames.ReadFrame(); err != nil || first.Header().Type != http2.FrameSettings {
		t.Errorf("then the app heard %v, %v", first, err)
	}
	_ = app.Close()
	if why := s.why(); why != "" {
		t.Errorf("opaque: %s", why)
	}
}

// TestRulesOfHTTP2 look at what rules of HTTP/1 do.
func TestRulesOfHTTP2(t *testing.T) {
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":path", Value: "/a%20b/c?x=1&x=2"},
		{Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: "shop:80"},
		{Name: "x-user", Value: "me"},
	}
	for _, tc := range []struct {
		about   api.Condition
		matches bool
	}{
		{api.Condition{On: api.OnHeader, Name: "X-User", Test: api.Equals, Value: "me"}, true},
		{api.Condition{On: api.OnHeader, Name: "X-User", Test: api.Equals, Value: "you"}, false},
		{api.Condition{On: api.OnHeader, Name: "Host", Test: api.Equals, Value: "shop:80"}, true},
		{api.Condition{On: api.OnPath, Test: api.Equals, Value: "/a b/c"}, true},
		{api.Condition{On: api.OnPath, Test: api.Prefix, Value: "/c"}, false},
		{api.Condition{On: api.OnQuery, Name: "x", Test: api.Equals, Value: "2"}, true},
		{api.Condition{On: api.OnMethod, Test: api.AnyOf, Any: []string{"GET", "POST"}}, true},
	} {
		m, err := NewMatch([]api.Condition{tc.about})
		if err != nil {
			t.Fatal(err)
		}
		r, err := requestOf(fields)
		if err != nil || (Subject{r}).Matches(m) != tc.matches {
			t.Errorf("%s: %v, %v; want %v", tc.about, !tc.matches, err, tc.matches)
		}
	}
	if _, err := requestOf([]hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":path", Value: "/100%"}}); err == nil {
		t.Error("a path that parsers read differently is looked at")
	}
	r, err := requestOf([]hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":path", Value: "/"}, {Name: "host", Value: "b"}})
	if err != nil || !slices.Equal(r.values("Host"), []string{"b"}) {
		t.Errorf("host without authority: %q, %v", r.values("Host"), err)
	}
}
