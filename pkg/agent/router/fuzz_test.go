package router

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

var requestSeeds = []string{
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /a%2fb?x=1;y HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\nGET",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3 ;x=y\r\nabc\r\n0 \r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: a, Trailer\r\n\r\n0\r\n\r\n",
	"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
	"GET / HTTP/1.1\nHost: a\n\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chun\u212aed\r\n\r\n0\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}

// FuzzRequest: what the router takes for a request, net/http takes for the same
// request, with the same body and the same rest; and it does not matter in which
// pieces it comes.
func FuzzRequest(f *testing.F) {
	for _, s := range requestSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRequest(b)
		if err != nil {
			var why Opacity
			if !errors.Is(err, errShort) && !errors.As(err, &why) {
				t.Fatalf("error %v", err)
			}
			return
		}
		in := bufio.NewReader(bytes.NewReader(b))
		std, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", b[:r.size], err)
		}
		if std.Method != r.method || std.RequestURI != r.target || std.ProtoMinor != int(r.minor-'0') {
			t.Fatalf("net/http reads %q as %s %s", b[:r.size], std.Method, std.RequestURI)
		}
		if r.path != "*" && std.URL.Path != r.path {
			t.Fatalf("the path is %q, net/http's %q", r.path, std.URL.Path)
		}
		sameFields(t, r.fields, std.Header)
		sameBody(t, b[r.size:], r.body, std.Body, in)
	})
}

// FuzzAnswer does the same for answers.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP",
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nall",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
	} {
		f.Add([]byte(s), "GET")
		f.Add([]byte(s), "HEAD")
	}
	f.Fuzz(func(t *testing.T, b []byte, method string) {
		if method != "HEAD" {
			method = "GET"
		}
		a, err := parseAnswer(b, method)
		if err != nil {
			var why Opacity
			if !errors.Is(err, errShort) && !errors.As(err, &why) {
				t.Fatalf("error %v", err)
			}
			return
		}
		in := bufio.NewReader(bytes.NewReader(b))
		std, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", b[:a.size], err)
		}
		if std.StatusCode != a.status {
			t.Fatalf("status %d, net/http's %d", a.status, std.StatusCode)
		}
		if a.status >= 200 && !a.body.untilEnd {
			sameBody(t, b[a.size:], a.body, std.Body, in)
		}
	})
}

// sameFields compares with a header that net/http has taken Host,
// Transfer-Encoding and Trailer out of.
func sameFields(t *testing.T, fields []field, std http.Header) {
	t.Helper()
	var have []string
	for _, f := range fields {
		name := textproto.CanonicalMIMEHeaderKey(f.name)
		if !slices.Contains([]string{"Host", "Transfer-Encoding", "Trailer", "Content-Length", "Connection"}, name) {
			have = append(have, name+": "+f.value)
		}
	}
	var want []string
	for name, values := range std {
		for _, value := range values {
			if !slices.Contains([]string{"Content-Length", "Connection", "Trailer"}, name) {
				want = append(want, name+": "+strings.Trim(value, " \t"))
			}
		}
	}
	// net/http makes a Cache-Control of Pragma.
	want = slices.DeleteFunc(want, func(s string) bool { return s == "Cache-Control: no-cache" && !slices.Contains(have, s) })
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Fatalf("fields %q, net/http's %q", have, want)
	}
}

// sameBody reads a body both ways, byte for byte and as a whole.
func sameBody(t *testing.T, b []byte, f framing, std io.Reader, rest *bufio.Reader) {
	t.Helper()
	if f.none() {
		return
	}
	whole, slow := newBody(f), newBody(f)
	n, ended, err := whole.take(b)
	var pieces int
	var slowEnded bool
	var slowErr error
	for i := 0; i < len(b) && !slowEnded && slowErr == nil; i++ {
		var took int
		took, slowEnded, slowErr = slow.take(b[i : i+1])
		pieces += took
	}
	if ended != slowEnded || (err == nil) != (slowErr == nil) || err == nil && n != pieces {
		t.Fatalf("at once %d, %v, %v; in pieces %d, %v, %v", n, ended, err, pieces, slowEnded, slowErr)
	}
	if err != nil || !ended {
		return
	}
	if _, err := io.Copy(io.Discard, std); err != nil {
		t.Fatalf("net/http does not read the body %q: %v", b[:n], err)
	}
	after, _ := io.ReadAll(rest)
	if !bytes.Equal(after, b[n:]) {
		t.Fatalf("after the body comes %q, for net/http %q", b[n:], after)
	}
}
