package router

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router/h2"
)

// sees returns a tap and what it has told of so far.
func sees() (*Tap, func() []string) {
	var mu sync.Mutex
	var told []string
	tap := NewTap(8, func(e Exchange, asked, answered *Message) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf("%s %s %s%s %d sent %d %q got %d %q %v %s", e.Protocol, e.Method, e.Host, e.Path, e.Status,
			e.Sent, asked.Body, e.Got, answered.Body, answered.Cut, e.Failure))
	})
	return tap, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(told)
	}
}

// TestTap: whatever pieces the bytes come in.
func TestTap(t *testing.T) {
	const (
		get  = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
		ok   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
		told = `HTTP/1.1 GET a/a 200 sent 0 "" got 2 "ok" false `
	)
	for name, tc := range map[string]struct {
		asked, answered string
		told            []string
	}{
		"one":         {get, ok, []string{told}},
		"pipelined":   {get + get + get, ok + ok + ok, []string{told, told, told}},
		"no answer":   {get + get, ok, []string{told, `HTTP/1.1 GET a/a 0 sent 0 "" got 0 "" false the connection ended`}},
		"HEAD":        {"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n" + get, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + ok, []string{`HTTP/1.1 HEAD a/a 200 sent 0 "" got 0 "" false `, told}},
		"informed":    {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 100 Continue\r\n\r\n" + ok, []string{`HTTP/1.1 POST a/a 200 sent 3 "abc" got 2 "ok" false `}},
		"chunks":      {"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + ok, []string{`HTTP/1.1 POST a/a 200 sent 13 "3\r\nabc\r\n" got 12 "2\r\nok\r\n0" true `, told}},
		"until end":   {get, "HTTP/1.1 200 OK\r\n\r\nhello", []string{`HTTP/1.1 GET a/a 200 sent 0 "" got 5 "hello" false `}},
		"upgraded":    {"GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nmore", "HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nmore", []string{`HTTP/1.1 GET a/a 101 sent 0 "" got 0 "" false `}},
		"not HTTP":    {"\x00\x01", "\x02", nil},
		"then faulty": {get + "what\r\n\r\n", ok, []string{told}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 2, 7, 1000} {
				tap, all := sees()
				show := func(show func([]byte), text string) {
					for piece := range slices.Chunk([]byte(text), size) {
						show(piece)
					}
				}
				show(tap.asked, tc.asked)
				show(func(b []byte) { tap.answered(b) }, tc.answered)
				tap.Close()
				if got := all(); !slices.Equal(got, tc.told) {
					t.Errorf("in pieces of %d: told of\n\t%q, not\n\t%q", size, got, tc.told)
				}
			}
		})
	}
}

// clientSide is the client's end of a connection, that a tap sees.
type clientSide struct {
	net.Conn
	tap *Tap
}

func (c clientSide) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.tap.answered(b[:n])
	return n, err
}

func (c clientSide) Write(b []byte) (int, error) {
	c.tap.asked(b)
	return c.Conn.Write(b)
}

// TestTapOfHTTP2 beside real ends.
func TestTapOfHTTP2(t *testing.T) {
	l := listen(t)
	http2Server(t, l, "app")
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	tap, told := sees()
	client := http2Over(t, clientSide{conn, tap})
	big := strings.Repeat("h", 20_000)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://a/b?more=100000", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Big", big)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	_ = conn.Close()
	tap.Close()
	want := []string{
		`HTTP/2 GET a/ 200 sent 0 "" got 12 "app GET " true `,
		`HTTP/2 POST a/b?more=100000 200 sent 5 "hello" got 100014 "app POST" true `,
	}
	if got := told(); !slices.Equal(got, want) {
		t.Errorf("told of\n\t%q, not\n\t%q", got, want)
	}
}

// TestTapOfLargeFrames: DATA of any size is seen, in whatever pieces.
func TestTapOfLargeFrames(t *testing.T) {
	const size = 400_000
	var asked, answered bytes.Buffer
	asked.WriteString(h2.Preface)
	client, server := http2.NewFramer(&asked, nil), http2.NewFramer(&answered, nil)
	_ = client.WriteSettings()
	_ = server.WriteSettings()
	post := []byte{0x83, 0x86, 0x84, 0x41, 1, 'a'} // POST http / a
	for _, id := range []uint32{1, 3} {
		_ = client.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: post})
		_ = client.WriteData(id, true, make([]byte, size))
		_ = server.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: []byte{0x88}}) // 200
		_ = server.WriteData(id, true, make([]byte, size))
	}
	for _, piece := range []int{1000, 1 << 20} {
		tap, told := sees()
		for b := range slices.Chunk(asked.Bytes(), piece) {
			tap.asked(b)
		}
		for b := range slices.Chunk(answered.Bytes(), piece) {
			tap.answered(b)
		}
		body := strings.Repeat("\x00", 8)
		one := fmt.Sprintf("HTTP/2 POST a/ 200 sent %d %q got %d %q true ", size, body, size, body)
		if got := told(); !slices.Equal(got, []string{one, one}) {
			t.Errorf("in pieces of %d: told of %q", piece, got)
		}
	}
}

// TestTapGivesUp: when answers are not understood, nothing is told of what was asked.
func TestTapGivesUp(t *testing.T) {
	tap, told := sees()
	tap.asked([]byte(strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 3)))
	tap.answered([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"))
	tap.asked([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	tap.Close()
	if got := told(); len(got) > 0 {
		t.Errorf("told of %q", got)
	}
}

// FuzzTap: whatever it is shown, it understands or gives up.
func FuzzTap(f *testing.F) {
	for _, seed := range requestSeeds {
		f.Add([]byte(seed), []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), 3)
	}
	f.Add([]byte(h2.Preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x03\x01\x05\x00\x00\x00\x01\x82\x86\x84"),
		[]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88"), 5)
	f.Add([]byte(h2.Preface+"\x00\x00\x05\x05\x04\x00\x00\x00\x01\x00\x00\x00\x02\x82\x00\x00\x00\x04\x00\x00\x00\x00\x00"), []byte("x"), 100)
	f.Fuzz(func(t *testing.T, asked, answered []byte, size int) {
		n := 0
		tap := NewTap(10, func(_ Exchange, asked, answered *Message) {
			n++
			if len(asked.Body) > 10 || len(answered.Body) > 10 {
				t.Error("keeps too much")
			}
		})
		for len(asked)+len(answered) > 0 {
			some := min(max(size, 1), len(asked))
			tap.asked(asked[:some])
			asked = asked[some:]
			some = min(max(size, 1), len(answered))
			tap.answered(answered[:some])
			answered = answered[some:]
		}
		tap.Close()
		told := n
		tap.Close()
		if n != told {
			t.Error("tells twice")
		}
	})
}
