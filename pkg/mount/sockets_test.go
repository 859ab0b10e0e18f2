//go:build unix

package mount

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// TestSockets: a connection here is one to the original, both ways and to the end of each;
// nothing stays when they are closed.
func TestSockets(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	original, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = original.Close() }()
	asked := make(chan string, 10)
	s := newSockets(func(ctx context.Context, path string) (splice.Conn, error) {
		asked <- path
		if path == "/gone" {
			return nil, errors.New("it is gone")
		}
		conn, err := new(net.Dialer).DialContext(ctx, "unix", original.Addr().String())
		if err != nil {
			return nil, err
		}
		return conn.(splice.Conn), nil
	}, slog.New(slog.DiscardHandler))
	at, err := s.of("/run/db.sock")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.of("/run/db.sock"); err != nil || again != at {
		t.Errorf("asked again: %s, %v", again, err)
	}
	gone, err := s.of("/gone")
	if err != nil || gone == at {
		t.Errorf("another: %s, %v", gone, err)
	}
	if info, err := os.Stat(at[:strings.LastIndex(at, "/")]); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info, err)
	}
	conn, err := net.Dial("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "question"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	far, err := original.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(far); err != nil || string(said) != "question" {
		t.Errorf("the original hears %q, %v", said, err)
	}
	if _, err := io.WriteString(far, "answer"); err != nil {
		t.Fatal(err)
	}
	_ = far.Close()
	if said, err := io.ReadAll(conn); err != nil || string(said) != "answer" {
		t.Errorf("it answers %q, %v", said, err)
	}
	refused, err := net.Dial("unix", gone)
	if err != nil {
		t.Fatal(err)
	}
	if said, _ := io.ReadAll(refused); len(said) > 0 {
		t.Errorf("what is gone says %q", said)
	}
	if first, second := <-asked, <-asked; first != "/run/db.sock" || second != "/gone" {
		t.Errorf("asked for %s, %s", first, second)
	}

	// One that goes on is ended.
	if conn, err = net.Dial("unix", at); err != nil {
		t.Fatal(err)
	}
	if far, err = original.Accept(); err != nil {
		t.Fatal(err)
	}
	s.close()
	if _, err := io.ReadAll(far); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Logf("the original hears %v", err)
	}
	if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
	if _, err := s.of("/other"); !errors.Is(err, errClosed) {
		t.Errorf("after the end: %v", err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	_ = conn.Close()
}

// socketsTo are sockets whose originals greet and then wait for the end.
func socketsTo(t *testing.T) (s *sockets, logged *bytes.Buffer) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	before := goleak.IgnoreCurrent()
	original, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := original.Accept()
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil: // this process has too many files, where a test wants it so
				time.Sleep(time.Millisecond)
				continue
			}
			serving.Go(func() {
				_, _ = io.WriteString(conn, "hello\n")
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			})
		}
	})
	logged = new(bytes.Buffer)
	s = newSockets(func(ctx context.Context, _ string) (splice.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", original.Addr().String())
		if err != nil {
			return nil, err
		}
		return conn.(splice.Conn), nil
	}, slog.New(slog.NewTextHandler(logged, nil)))
	t.Cleanup(func() {
		s.close()
		_ = original.Close()
		serving.Wait()
		goleak.VerifyNone(t, before)
	})
	return s, logged
}

// greeted connects to a socket and is greeted.
func greeted(t *testing.T, at string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	wantGreeting(t, conn)
	return conn
}

func wantGreeting(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if said, err := bufio.NewReader(conn).ReadString('\n'); err != nil || said != "hello\n" {
		t.Errorf("it says %q, %v", said, err)
	}
}

// TestManySockets: those that were only looked at make room for others, those that are
// connected to do not, and who gets none can read why.
func TestManySockets(t *testing.T) {
	s, logged := socketsTo(t)
	of := func(n int) string {
		t.Helper()
		at, err := s.of(fmt.Sprintf("/run/%d", n))
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	first := of(0)
	conn := greeted(t, first)
	for n := range 3 * maxSockets {
		of(n)
	}
	if again := of(0); again != first {
		t.Error("one with a connection has made room")
	}
	_ = greeted(t, of(3*maxSockets-1)).Close()
	if left, err := os.ReadDir(s.dir); err != nil || len(left) > maxSockets {
		t.Errorf("%d listeners, %v", len(left), err)
	}
	if logged.Len() > 0 {
		t.Errorf("logged %s", logged)
	}
	conns := []net.Conn{conn}
	for n := 1; n < maxSockets; n++ {
		conns = append(conns, greeted(t, of(n)))
	}
	for range 3 {
		if at, err := s.of("/run/more"); err == nil {
			t.Errorf("one more: %s", at)
		}
	}
	if strings.Count(logged.String(), "more than 100 sockets are in use") != 1 {
		t.Errorf("logged %q", logged)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		at, err := s.of("/run/more")
		if err == nil {
			_ = greeted(t, at).Close()
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal(err)
		}
	}
}

// TestAcceptFails: a socket is served on after this process had too many files for a while.
func TestAcceptFails(t *testing.T) {
	s, _ := socketsTo(t)
	at, err := s.of("/run/s")
	if err != nil {
		t.Fatal(err)
	}
	_ = greeted(t, at).Close()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = uint64(fd) // the lowest number that is free may be below
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var taken []int
	for {
		n, err := syscall.Dup(fd)
		if err != nil {
			break
		}
		taken = append(taken, n)
	}
	err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: at})
	time.Sleep(acceptPause)
	for _, n := range taken {
		_ = syscall.Close(n)
	}
	if failed := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	f := os.NewFile(uintptr(fd), "client")
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	// Where a file became free meanwhile, it was accepted, and may not have been joined.
	if said, err := bufio.NewReader(conn).ReadString('\n'); said != "hello\n" && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("it says %q, %v", said, err)
	}
	_ = conn.Close()
	_ = greeted(t, at).Close()
}
