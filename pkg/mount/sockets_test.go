//go:build unix

package mount

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"

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
