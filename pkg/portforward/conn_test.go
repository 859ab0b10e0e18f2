package portforward

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/moby/spdystream"
	"k8s.io/apimachinery/pkg/util/httpstream"
)

// roundTrip sends n random bytes to an echo and compares what returns.
func roundTrip(t *testing.T, conn net.Conn, n int) {
	t.Helper()
	sent := make([]byte, n)
	_, _ = rand.Read(sent)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := conn.Write(sent); err != nil {
			t.Errorf("write: %v", err)
		}
	})
	got := make([]byte, n)
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Errorf("read: %v", err)
		_ = conn.Close()
	} else if !bytes.Equal(got, sent) {
		t.Error("the echo differs")
	}
	wg.Wait()
}

// dialTest dials a server whose port behaves as serve, once over each protocol.
func dialTest(t *testing.T, serve func(data, errs httpstream.Stream), test func(t *testing.T, conn net.Conn)) {
	for _, p := range []Protocol{SPDY, WebSocket} {
		t.Run(p.String(), func(t *testing.T) {
			s := newAPIServer(t)
			s.serve = serve
			d := s.dialer(t)
			d.preferred.Store(uint32(p))
			conn, err := d.Dial(t.Context(), "shop", "front-1", 8080)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			test(t, conn)
		})
	}
}

func TestConnBulk(t *testing.T) {
	dialTest(t, echo, func(t *testing.T, conn net.Conn) { roundTrip(t, conn, 8<<20) })
}

func TestConnEnds(t *testing.T) {
	tests := []struct {
		name     string
		serve    func(data, errs httpstream.Stream)
		is       error
		contains string
	}{
		{"closed by the app", func(data, errs httpstream.Stream) {
			_, _ = io.WriteString(data, "bye")
			_ = errs.Close()
			_ = data.Close()
		}, io.EOF, ""},
		{
			"nobody listens", fail("error forwarding port 8080 to pod front-1: dial tcp4 127.0.0.1:8080: connect: connection refused"),
			syscall.ECONNREFUSED, "pod shop/front-1 port 8080: error forwarding",
		},
		{"nobody listens, said after the end", func(data, errs httpstream.Stream) {
			_ = data.Close()
			fail("connection refused")(data, errs)
		}, syscall.ECONNREFUSED, "connection refused"},
		{"the end, and no word on the error stream", func(data, _ httpstream.Stream) { _ = data.Close() }, io.EOF, ""},
		{"error after data", func(data, errs httpstream.Stream) {
			_, _ = io.WriteString(data, "bye")
			fail("no such container")(data, errs)
		}, nil, "no such container"},
		{"endless message", fail(strings.Repeat("x", 1<<20)), nil, "xxx"},
		{"reset", func(data, _ httpstream.Stream) { _ = data.Reset() }, syscall.ECONNRESET, "pod shop/front-1 port 8080"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dialTest(t, tt.serve, func(t *testing.T, conn net.Conn) {
				buf := make([]byte, 100)
				n := 0
				var err error
				for err == nil {
					var m int
					m, err = conn.Read(buf[n:])
					n += m
				}
				if tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.contains) {
					t.Errorf("error %.300v, want %v with %q", err, tt.is, tt.contains)
				}
				if len(err.Error()) > 2*maxMessage {
					t.Errorf("error of %d bytes", len(err.Error()))
				}
				if _, again := conn.Read(buf); !errors.Is(again, err) && again.Error() != err.Error() {
					t.Errorf("second read: %v, first %v", again, err)
				}
			})
		})
	}
}

func TestConnLost(t *testing.T) {
	for _, p := range []Protocol{SPDY, WebSocket} {
		t.Run(p.String(), func(t *testing.T) {
			s := newAPIServer(t)
			d := s.dialer(t)
			d.preferred.Store(uint32(p))
			conn, err := d.Dial(t.Context(), "shop", "front-1", 8080)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			s.cut()
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read: %v, want an unexpected end", err)
			}
		})
	}
}

// stall never reads, so that writes block once the buffers are full.
func stall(release <-chan struct{}) func(data, errs httpstream.Stream) {
	return func(httpstream.Stream, httpstream.Stream) { <-release }
}

func TestConnWriteDeadline(t *testing.T) {
	release := make(chan struct{})
	dialTest(t, stall(release), func(t *testing.T, conn net.Conn) {
		if err := conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err := conn.Write(make([]byte, 64<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %v, want a timeout", err)
		}
		_ = conn.SetWriteDeadline(time.Time{})
		if _, err := conn.Write([]byte("x")); err == nil {
			t.Error("a write went on after half a frame")
		}
	})
	close(release)
}

func TestConnReadDeadline(t *testing.T) {
	dialTest(t, echo, func(t *testing.T, conn net.Conn) {
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v, want a timeout", err)
		}
		_ = conn.SetReadDeadline(time.Time{})
		if strings.Contains(t.Name(), SPDY.String()) {
			roundTrip(t, conn, 1000)
		}
	})
}

func TestConnCloseUnblocks(t *testing.T) {
	release := make(chan struct{})
	dialTest(t, stall(release), func(t *testing.T, conn net.Conn) {
		errs := make(chan error, 2)
		started := make(chan struct{}, 2)
		go func() {
			started <- struct{}{}
			_, err := conn.Read(make([]byte, 1))
			errs <- err
		}()
		go func() {
			started <- struct{}{}
			_, err := conn.Write(make([]byte, 64<<20))
			errs <- err
		}()
		<-started
		<-started
		for range 2 {
			if err := conn.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("error %v, want net.ErrClosed", err)
			}
		}
	})
	close(release)
}

// A server's ping is answered while the client only reads.
func TestConnAnswersPings(t *testing.T) {
	client, server := net.Pipe()
	sc, err := spdystream.NewConnection(server, true)
	if err != nil {
		t.Fatal(err)
	}
	ponged := make(chan error, 1)
	var streams sync.WaitGroup
	streams.Add(2)
	go sc.Serve(func(st *spdystream.Stream) {
		_ = st.SendReply(nil, false)
		streams.Done()
	})
	go func() {
		streams.Wait()
		_, err := sc.Ping()
		ponged <- err
	}()
	k, err := openStreams(&attempt{conn: &carrier{Conn: client, raw: client}, reader: bufio.NewReader(client)}, Addr{"shop", "front-1", 8080})
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = k.Read(make([]byte, 1))
	}()
	select {
	case err := <-ponged:
		if err != nil {
			t.Errorf("ping: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("no answer to a ping")
	}
	_ = k.Close()
	_ = server.Close()
	<-read
}

// Read takes any split of the frames, and delivers the same.
func TestConnReadsFramesInPieces(t *testing.T) {
	var wire []byte
	wire = append(wire, 0x80, 3, 0, 2, 0, 0, 0, 6, 0, 0, 0, 3, 9, 9) // SYN_REPLY, junk headers
	wire = append(wire, 0x80, 3, 0, 4, 0, 0, 0, 0)                   // SETTINGS, empty
	wire = append(appendHeader(wire, dataStream, 0, 5), "hello"...)
	wire = append(appendHeader(wire, 7, 0, 3), "???"...) // a stream nobody asked for
	wire = append(wire, 0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 9)
	wire = append(appendHeader(wire, dataStream, 1, 6), " world"...)
	client, server := net.Pipe()
	defer func() { _, _ = client.Close(), server.Close() }()
	k := &conn{carrier: &carrier{Conn: client, raw: client}, r: bufio.NewReader(iotest.OneByteReader(bytes.NewReader(wire)))}
	got, err := io.ReadAll(k)
	if err != nil || string(got) != "hello world" {
		t.Errorf("read %q, %v", got, err)
	}
}

func FuzzConnRead(f *testing.F) {
	f.Add(append(appendHeader(nil, dataStream, 1, 2), "hi"...))
	f.Add([]byte{0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2})
	f.Add([]byte{0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 5})
	f.Fuzz(func(t *testing.T, wire []byte) {
		client, server := net.Pipe()
		_ = server.Close()
		k := &conn{carrier: &carrier{Conn: client, raw: client}, r: bufio.NewReaderSize(bytes.NewReader(wire), readBuffer)}
		n, err := io.Copy(io.Discard, k)
		if n > int64(len(wire)) {
			t.Errorf("%d bytes out of %d", n, len(wire))
		}
		if err == nil && !k.fin {
			t.Error("a stream that did not end ended well")
		}
		_ = k.Close()
	})
}
