//go:build linux

package e2e

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

// frame is one of RFC 6455, 5.2.
type frame struct {
	first   byte // FIN, the reserved bits and the opcode
	payload string
}

// The first bytes of frames.
const (
	fin          = 0x80
	continuation = 0x00
	text         = 0x01
	binaryData   = 0x02
	closing      = 0x08
	ping         = 0x09
	pong         = 0x0a
)

// head returns a frame's bytes before its payload or its key.
func (f frame) head(masked byte) []byte {
	switch n := len(f.payload); {
	case n < 126:
		return []byte{f.first, masked | byte(n)}
	case n < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{f.first, masked | 126}, uint16(n))
	default:
		return binary.BigEndian.AppendUint64([]byte{f.first, masked | 127}, uint64(n))
	}
}

// masked returns the bytes of a client's frame.
func (f frame) masked(key uint32) string {
	b := binary.BigEndian.AppendUint32(f.head(0x80), key)
	mask := b[len(b)-4:]
	for i := range len(f.payload) {
		b = append(b, f.payload[i]^mask[i%4])
	}
	return string(b)
}

// unmasked returns the bytes of a server's frame.
func (f frame) unmasked() string { return string(f.head(0)) + f.payload }

// closeFrame is a closing frame.
func closeFrame(code uint16, why string) frame {
	return frame{fin | closing, string(binary.BigEndian.AppendUint16(nil, code)) + why}
}

// socket is a client's connection, made inside the cluster.
type socket struct {
	conn *execConn
	in   *bufio.Reader
}

func dialSocket(t *testing.T, address string) *socket {
	t.Helper()
	conn, err := dialInCluster(t, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &socket{conn, bufio.NewReader(conn)}
}

func (s *socket) send(t *testing.T, b string) {
	t.Helper()
	if _, err := io.WriteString(s.conn, b); err != nil {
		t.Fatal(err)
	}
}

// frame reads one of a server's, whole and in as few bytes as it takes.
func (s *socket) frame() (f frame, err error) {
	head := make([]byte, 2, 10)
	if _, err = io.ReadFull(s.in, head); err != nil {
		return f, err
	}
	size := uint64(head[1])
	if more := map[uint64]int{126: 2, 127: 8}[size]; more > 0 {
		head = head[:2+more]
		if _, err = io.ReadFull(s.in, head[2:]); err != nil {
			return f, err
		}
		size = binary.BigEndian.Uint64(append(make([]byte, 8-more), head[2:]...))
	}
	if size > 1<<24 {
		return f, fmt.Errorf("a frame of %d bytes", size)
	}
	payload := make([]byte, size)
	_, err = io.ReadFull(s.in, payload)
	f = frame{head[0], string(payload)}
	if err == nil && string(head) != string(f.head(0)) {
		err = fmt.Errorf("its head is %x, not %x", head, f.head(0))
	}
	return f, err
}

// want reads a frame, which must be this one.
func (s *socket) want(t *testing.T, want frame) {
	t.Helper()
	if got, err := s.frame(); err != nil || got != want {
		t.Fatalf("got frame %#x of %d bytes, %.50q, %v; want %#x of %d, %.50q",
			got.first, len(got.payload), got.payload, err, want.first, len(want.payload), want.payload)
	}
}

func (s *socket) wantEnd(t *testing.T) {
	t.Helper()
	if b, err := s.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end comes %#x, %v", b, err)
	}
}

// ask sends a request that offers to upgrade, and returns the answer without a body.
func (s *socket) ask(t *testing.T, path, user string) *http.Response {
	t.Helper()
	s.send(t, "GET "+path+" HTTP/1.1\r\nHost: iwf\r\nX-Tele-User: "+user+"\r\nConnection: keep-alive, Upgrade\r\n"+
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	answer, err := http.ReadResponse(s.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// upgrade makes a WebSocket of the connection.
func (s *socket) upgrade(t *testing.T, path, user string, by func(string) bool) {
	t.Helper()
	answer := s.ask(t, path, user)
	who, accept := answer.Header.Get("X-Pod"), answer.Header.Get("Sec-Websocket-Accept")
	const want = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" // RFC 6455, 1.3
	if answer.StatusCode != http.StatusSwitchingProtocols || accept != want || !by(who) {
		t.Fatalf("upgrade of %s's: %s by %q, accepted by %q; want 101 and %q", user, answer.Status, who, accept, want)
	}
}

// refused asks for an upgrade that is refused.
func (s *socket) refused(t *testing.T, user string, by func(string) bool) {
	t.Helper()
	answer := s.ask(t, "/status/403", user)
	_, err := io.Copy(io.Discard, answer.Body)
	if who := answer.Header.Get("X-Pod"); err != nil || answer.StatusCode != http.StatusForbidden || !by(who) {
		t.Fatalf("upgrade of %s's: %s by %q, %v; want it refused by 403", user, answer.Status, who, err)
	}
}

// get makes another request.
func (s *socket) get(t *testing.T, user string, by func(string) bool) {
	t.Helper()
	s.send(t, "GET / HTTP/1.1\r\nHost: iwf\r\nX-Tele-User: "+user+"\r\n\r\n")
	answer, err := http.ReadResponse(s.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	var echo api.Echo
	if err := json.NewDecoder(answer.Body).Decode(&echo); err != nil || !by(echo.Pod) {
		t.Fatalf("request of %s's is answered by %q, %s, %v", user, echo.Pod, answer.Status, err)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
}

// socketHandler is at the laptop what the http application is in the cluster, but that
// its first message comes with the upgrade.
func socketHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", mirror)
	mux.HandleFunc("/status/403", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Pod", laptopName)
		w.WriteHeader(http.StatusForbidden)
	})
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		first := r.URL.Query().Get("first")
		if first != "" {
			w = corkedWriter{w}
		}
		var upgrader websocket.Upgrader
		conn, err := upgrader.Upgrade(w, r, http.Header{"X-Pod": {laptopName}})
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		if first != "" && conn.WriteMessage(websocket.TextMessage, []byte(first)) != nil {
			return
		}
		for {
			kind, data, err := conn.ReadMessage()
			if err != nil || conn.WriteMessage(kind, data) != nil {
				return
			}
		}
	})
	return mux
}

// corkedWriter is an answer whose connection sends its first two writes as one.
type corkedWriter struct{ http.ResponseWriter }

func (w corkedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, in, err := http.NewResponseController(w.ResponseWriter).Hijack()
	return &corked{Conn: conn}, in, err
}

type corked struct {
	net.Conn
	held []byte
	open bool
}

func (c *corked) Write(b []byte) (int, error) {
	if c.open {
		return c.Conn.Write(b)
	}
	c.open = c.held != nil
	c.held = append(c.held, b...)
	if !c.open {
		return len(b), nil
	}
	_, err := c.Conn.Write(c.held)
	return len(b), err
}
