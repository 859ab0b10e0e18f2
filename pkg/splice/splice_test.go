package splice_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tcpPair returns the two ends of a TCP connection over loopback.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialed.Close(); _ = accepted.Close() })
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

// joined splices two TCP connections and returns their outer ends.
func joined(ctx context.Context, t *testing.T) (client, server *net.TCPConn, result <-chan error) {
	t.Helper()
	client, a := tcpPair(t)
	b, server := tcpPair(t)
	ended := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := splice.Splice(ctx, a, b)
		ended <- err
	})
	t.Cleanup(wg.Wait)
	return client, server, ended
}

func TestHalfClose(t *testing.T) {
	client, server, result := joined(t.Context(), t)
	question := bytes.Repeat([]byte("question"), 100_000)
	go func() {
		_, _ = client.Write(question)
		_ = client.CloseWrite()
	}()
	got, err := io.ReadAll(server)
	if err != nil || !bytes.Equal(got, question) {
		t.Fatalf("server read %d bytes, %v; want %d", len(got), err, len(question))
	}
	// The client has closed its side long ago; the answer must still arrive.
	if _, err := server.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	_ = server.CloseWrite()
	answer, err := io.ReadAll(client)
	if err != nil || string(answer) != "answer" {
		t.Fatalf("client read %q, %v", answer, err)
	}
	if err := <-result; err != nil {
		t.Fatalf("splice: %v", err)
	}
}

func TestResetReachesTheOtherSide(t *testing.T) {
	client, server, result := joined(t.Context(), t)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := splice.Reset(client); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("server read: %v, want a reset", err)
	}
	if err := <-result; err == nil {
		t.Fatal("splice reported no error after a reset")
	}
}

func TestEndOfContextResetsBoth(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	client, server, result := joined(ctx, t)
	cause := errors.New("the session ends")
	cancel(cause)
	for _, c := range []net.Conn{client, server} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v, want a reset", err)
		}
	}
	if err := <-result; !errors.Is(err, cause) {
		t.Errorf("splice: %v, want %v", err, cause)
	}
}

// broken is a flow whose copying to the other connection fails.
type broken struct {
	net.Conn
	fail       chan error
	halfClosed atomic.Bool
}

func (b *broken) CopyTo(_ io.Writer, done func(int64, error)) {
	go func() { done(0, <-b.fail) }()
}

func (b *broken) CopyFrom(try func([]byte, func()) (int, error), done func(int64, error)) {
	go func() {
		ready := make(chan struct{}, 1)
		buf := make([]byte, 1)
		for {
			n, err := try(buf, func() { ready <- struct{}{} })
			switch {
			case errors.Is(err, io.EOF):
				done(0, nil)
				return
			case err != nil:
				done(0, err)
				return
			case n == 0:
				<-ready
			}
		}
	}()
}

func (b *broken) CloseWrite() error {
	b.halfClosed.Store(true)
	return nil
}

// atRest is a connection that reads an end when it is reset itself.
type atRest struct {
	net.Conn
	readiness splice.Readiness
	reset     atomic.Bool
}

func (a *atRest) TryRead(_ []byte, ready func()) (int, error) {
	for {
		switch {
		case a.reset.Load():
			return 0, io.EOF
		case a.readiness.Wait(ready):
			return 0, nil
		}
	}
}

func (a *atRest) CloseWrite() error { return nil }

func (a *atRest) Reset() error {
	a.reset.Store(true)
	a.readiness.Set()
	return nil
}

// TestNoFINBeforeReset: what a connection reads once it has been reset here is
// no end of its peer's.
func TestNoFINBeforeReset(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _, _ = near.Close(), far.Close() }()
	a, b := &atRest{Conn: near}, &broken{Conn: far, fail: make(chan error)}
	ended := make(chan error, 1)
	splice.Join(t.Context(), a, b, func(_ splice.Stats, err error) { ended <- err })
	why := errors.New("no more")
	b.fail <- why
	if err := <-ended; !errors.Is(err, why) {
		t.Errorf("ended with %v", err)
	}
	if b.halfClosed.Load() {
		t.Error("an end was passed on")
	}
}
