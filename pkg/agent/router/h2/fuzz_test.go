//go:build linux

package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// pair returns the ends of a connection.
func pair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for n, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		conn, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		ends[n] = conn.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

// op appends a frame that one of the three says: its kind, flags, stream and payload.
func op(script []byte, who, kind, flags, stream byte, payload string) []byte {
	return append(append(script, who, kind, flags, stream, byte(len(payload))), payload...)
}

// frameAt cuts the next frame from a script.
func frameAt(script []byte) (who int, raw, rest []byte) {
	if len(script) < 5 {
		return 0, nil, nil
	}
	size := min(int(script[4]), len(script)-5)
	raw = []byte{0, 0, byte(size), script[1] % 16, script[2], 0, 0, 0, script[3]}
	return int(script[0] % 3), append(raw, script[5:5+size]...), script[5+size:]
}

// The limits of one run: what is said is cut off, then an announced end may take its
// time. A fuzzing worker is ended after 10 s, with no word of why.
const (
	fuzzSays = time.Second
	fuzzEnds = 8 * time.Second
)

// FuzzRelay: whatever client, app and handler say, the relay ends, holds nothing, and
// says only what is well formed.
func FuzzRelay(f *testing.F) {
	const client, app, me = 0, 1, 2
	getMine := "\x82\x86\x84\x41\x01a\x40\x06x-user\x02me"
	var s []byte
	s = op(s, client, 1, 5, 1, "\x82\x86\x84\x41\x01a")
	s = op(s, app, 1, 4, 1, "\x88")
	s = op(s, app, 0, 1, 1, "hello")
	f.Add(s)
	s = op(nil, client, 4, 0, 0, "\x00\x04\x00\x00\x00\x05")
	s = op(s, client, 1, 4, 1, getMine)
	s = op(s, client, 0, 0, 1, "question")
	s = op(s, client, 0, 9, 1, "\x02end\x00\x00")
	s = op(s, me, 1, 4, 1, "\x88")
	s = op(s, me, 0, 0, 1, "answer to this")
	s = op(s, client, 8, 0, 1, "\x00\x00\x00\x09")
	s = op(s, me, 1, 5, 1, "\x40\x01a\x01b")
	f.Add(s)
	s = op(nil, client, 1, 5, 1, getMine)
	s = op(s, client, 1, 4, 3, getMine)
	s = op(s, client, 3, 0, 3, "\x00\x00\x00\x08")
	s = op(s, me, 7, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00")
	s = op(s, app, 7, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00bye")
	s = op(s, app, 6, 0, 0, "12345678")
	s = op(s, client, 9, 4, 1, "\x82")
	f.Add(s)
	f.Fuzz(func(t *testing.T, script []byte) {
		clientConn, in := pair(t)
		appConn, toApp := pair(t)
		meConn, toMe := pair(t)
		sessions := fuzzSession{conn: make(chan splice.Conn, 1), refuses: len(script)%2 == 1}
		sessions.conn <- toMe
		budget := NewBudget(1 << 10)
		var running sync.WaitGroup
		ended := make(chan error, 1)
		running.Go(func() {
			ended <- Serve(context.Background(), Config{
				Client: in, App: toApp, Held: budget, Log: slog.New(slog.DiscardHandler),
				Pick: func(fields []hpack.HeaderField) Taker {
					for _, f := range fields {
						if f.Name == "x-user" {
							return sessions
						}
					}
					return nil
				},
				DialApp: func(context.Context) (splice.Conn, error) { return nil, errors.New("nobody") },
			})
		})
		ends := []*net.UnixConn{clientConn, appConn, meConn}
		for n, conn := range ends {
			// A handler that is not reached is not read either.
			_ = conn.SetWriteDeadline(time.Now().Add(fuzzSays))
			running.Go(func() { hearAll(t, conn, n == me) })
		}
		_, _ = appConn.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0})
		for who, raw, rest := frameAt(script); raw != nil; who, raw, rest = frameAt(rest) {
			_, _ = ends[who].Write(raw)
		}
		for _, conn := range ends {
			_ = conn.CloseWrite()
		}
		select {
		case err := <-ended:
			t.Logf("the relay ended: %v", err)
		case <-time.After(fuzzEnds):
			stacks := make([]byte, 1<<20)
			t.Fatalf("the relay does not end: %s", stacks[:runtime.Stack(stacks, true)])
		}
		for _, conn := range append(ends, toMe) {
			_ = conn.Close()
		}
		running.Wait()
		if held := budget.Held(); held != 0 {
			t.Errorf("%d bytes are held after the end", held)
		}
	})
}

// hearAll reads what an end is sent, and checks that it may be said.
func hearAll(t *testing.T, conn net.Conn, preface bool) {
	if preface {
		b := make([]byte, len(Preface))
		if n, err := io.ReadFull(conn, b); err != nil || string(b) != Preface {
			if n > 0 {
				t.Errorf("begins with %q", b[:n])
			}
			return
		}
	}
	var all bytes.Buffer
	frames := http2.NewFramer(nil, io.TeeReader(conn, &all))
	frames.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	for {
		f, err := frames.ReadFrame()
		if _, ok := errors.AsType[http2.ConnectionError](err); ok {
			t.Errorf("is sent a faulty frame: %v: %x", frames.ErrorDetail(), all.Bytes())
		}
		if err != nil && !errors.As(err, new(http2.StreamError)) {
			_, _ = io.Copy(io.Discard, conn)
			return
		}
		if f != nil && f.Header().Length > frameSize {
			t.Errorf("frame of %d bytes", f.Header().Length)
		}
	}
}

type fuzzSession struct {
	conn    chan splice.Conn
	refuses bool
}

func (s fuzzSession) Open(context.Context) (splice.Conn, error) {
	select {
	case conn := <-s.conn:
		return conn, nil
	default:
		return nil, errors.New("no more")
	}
}

func (fuzzSession) Taken() {}

func (s fuzzSession) Refuses() bool { return s.refuses }

func (fuzzSession) Ended() <-chan struct{} { return nil }
