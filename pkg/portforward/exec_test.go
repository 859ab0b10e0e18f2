package portforward

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const execPath = "/api/v1/namespaces/shop/pods/front-1/exec"

func execTarget() ExecAddr {
	return ExecAddr{Namespace: "shop", Pod: "front-1", Container: "app", Command: []string{"/app", "stdio"}}
}

func TestExecRefused(t *testing.T) {
	s := newAPIServer(t)
	s.answer = func(w http.ResponseWriter, _ *http.Request) bool {
		writeStatus(w, http.StatusForbidden, metav1.StatusReasonForbidden, "cannot create pods/exec")
		return true
	}
	conn, err := s.dialer(t).Exec(execTarget())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // no test takes that long
	_, readErr := conn.Read(make([]byte, 1))
	_, writeErr := conn.Write([]byte("x"))
	for _, err := range []error{readErr, writeErr} {
		if err == nil || !strings.Contains(err.Error(), "cannot create pods/exec") && !strings.Contains(err.Error(), "403") || !strings.Contains(err.Error(), "pod shop/front-1") {
			t.Errorf("error %v", err)
		}
	}
	if got, want := s.seen(), "POST "+execPath+", GET "+execPath; got != want {
		t.Errorf("requests %q, want %q", got, want)
	}
}

func TestExecClose(t *testing.T) {
	s := newAPIServer(t)
	asked, release := make(chan struct{}, 2), make(chan struct{})
	s.answer = func(http.ResponseWriter, *http.Request) bool {
		asked <- struct{}{}
		<-release
		return true
	}
	conn, err := s.dialer(t).Exec(execTarget())
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	for range 2 {
		if err := conn.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	close(release)
}

func TestExecOfNothing(t *testing.T) {
	d := newAPIServer(t).dialer(t)
	for _, target := range []ExecAddr{{}, {Namespace: "shop", Pod: "../x", Command: []string{"a"}}, {Namespace: "shop", Pod: "front-1"}} {
		if conn, err := d.Exec(target); err == nil {
			_ = conn.Close()
			t.Errorf("%+v is run", target)
		}
	}
}

// A command's own words say more than its exit code.
func TestTail(t *testing.T) {
	var words tail
	for range 3 {
		if _, err := words.Write([]byte(strings.Repeat("x", maxMessage))); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = words.Write([]byte("\nexec: not found\n"))
	if len(words.text) != maxMessage || !strings.HasSuffix(string(words.text), "not found\n") {
		t.Errorf("kept %d bytes, ending in %q", len(words.text), words.text[maxMessage-20:])
	}
}
