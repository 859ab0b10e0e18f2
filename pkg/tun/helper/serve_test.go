//go:build linux || darwin

package helper

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun/tuntest"
)

func TestMain(m *testing.M) { tuntest.Main(m) }

const limit = 15 * time.Second

func leaks(t *testing.T) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
}

// fakeHost is a Host without a machine.
type fakeHost struct {
	mu     sync.Mutex
	log    []string
	fail   error
	closed chan struct{}
	once   sync.Once
}

func newFakeHost() *fakeHost { return &fakeHost{closed: make(chan struct{})} }

func (h *fakeHost) step(s string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, s)
	return h.fail
}

func (h *fakeHost) steps() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.log)
}

func (h *fakeHost) OpenTUN(int) (*os.File, string, error) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		return nil, "", err
	}
	return f, "tele0", h.step("open")
}
func (h *fakeHost) SetNetwork(string, tun.Network) error { return h.step("network") }
func (h *fakeHost) SetDNS(string, DNS) error             { return h.step("dns") }
func (h *fakeHost) Close() error {
	h.once.Do(func() { _ = h.step("close"); close(h.closed) })
	return nil
}

// serveFor runs a helper for this user on l and reports how it ended.
func serveFor(ctx context.Context, t *testing.T, socket string, host Host) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, socket, os.Getuid(), host, nil) }()
	return ended
}

func end(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(limit):
		t.Fatal("the helper did not end")
		return nil
	}
}

func socketDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "s")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// converse gives a session and its helper.
func converse(t *testing.T, host Host) (*Client, <-chan error) {
	t.Helper()
	l, err := Listen(socketDir(t))
	if err != nil {
		t.Fatal(err)
	}
	l.peer = os.Getuid()
	defer func() { _ = l.Close() }()
	ended := serveFor(t.Context(), t, l.Path(), host)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c, err := l.Accept(ctx)
	if err != nil {
		t.Fatalf("accept: %v (helper: %v)", err, end(t, ended))
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, ended
}

func TestConversation(t *testing.T) {
	leaks(t)
	h := newFakeHost()
	c, ended := converse(t, h)
	ctx := t.Context()
	refused := func(what string, err error) {
		t.Helper()
		if e, ok := errors.AsType[*Error](err); !ok || !e.Refused {
			t.Errorf("%s: %v, want a refusal", what, err)
		}
	}
	refused("network without a device", c.SetNetwork(ctx, good()))
	refused("dns without a device", c.SetDNS(ctx, dnsA))
	_, err := c.OpenTUN(ctx, 100)
	refused("mtu", err)
	// The fake's descriptor is not a TUN: the session refuses it.
	if _, err := c.OpenTUN(ctx, tun.MaxMTU); err == nil {
		t.Error("took a descriptor that is no tun")
	}
	_, err = c.OpenTUN(ctx, tun.MaxMTU)
	refused("second device", err)
	refused("dns before network", c.SetDNS(ctx, dnsA))
	refused("default route", c.SetNetwork(ctx, tun.Network{Addrs: good().Addrs, Routes: prefixes("0.0.0.0/0")}))
	if err := c.SetNetwork(ctx, good()); err != nil {
		t.Error(err)
	}
	if err := c.SetDNS(ctx, dnsA); err != nil {
		t.Error(err)
	}
	refused("network without the dns server", c.SetNetwork(ctx, tun.Network{}))
	if err := c.SetDNS(ctx, DNS{}); err != nil {
		t.Error(err)
	}
	if err := c.SetNetwork(ctx, tun.Network{}); err != nil {
		t.Error(err)
	}
	h.mu.Lock()
	h.fail = errors.New("kernel says no")
	h.mu.Unlock()
	err = c.SetNetwork(ctx, good())
	if e, ok := errors.AsType[*Error](err); !ok || e.Refused || !strings.Contains(e.Message, "kernel says no") {
		t.Errorf("failure: %v", err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := end(t, ended); err != nil {
		t.Errorf("helper ended with %v", err)
	}
	want := []string{"open", "network", "dns", "dns", "network", "network", "close"}
	if got := h.steps(); !slices.Equal(got, want) {
		t.Errorf("did %q, want %q", got, want)
	}
	if err := c.SetDNS(ctx, dnsA); !errors.Is(err, ErrGone) {
		t.Errorf("after close: %v", err)
	}
}

// A session that is killed has its socket closed by the kernel.
func TestSessionDies(t *testing.T) {
	leaks(t)
	h := newFakeHost()
	c, ended := converse(t, h)
	_ = c.conn.Close()
	if err := end(t, ended); err != nil {
		t.Errorf("helper ended with %v", err)
	}
	<-h.closed
}

// A helper that ends is noticed by the session, and requests fail at once.
func TestHelperEnds(t *testing.T) {
	leaks(t)
	h := newFakeHost()
	l, err := Listen(socketDir(t))
	if err != nil {
		t.Fatal(err)
	}
	l.peer = os.Getuid()
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	ended := serveFor(ctx, t, l.Path(), h)
	c, err := l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cancel() // as on SIGTERM
	if err := end(t, ended); err != nil {
		t.Errorf("helper ended with %v", err)
	}
	select {
	case <-h.closed:
	default:
		t.Error("nothing was undone")
	}
	<-c.Done()
	if err := c.SetNetwork(t.Context(), good()); !errors.Is(err, ErrGone) {
		t.Errorf("request to an ended helper: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// A request that is given up on ends the conversation.
func TestGiveUp(t *testing.T) {
	leaks(t)
	l, err := Listen(socketDir(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	l.peer = os.Getuid()
	conn, err := net.Dial("unix", l.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("accept of a silent helper: %v", err)
	}
	if _, err := l.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("accept of nobody: %v", err)
	}
}

// raw speaks to a helper by hand.
func raw(t *testing.T, lines ...string) (answers string, h *fakeHost, err error) {
	t.Helper()
	path := filepath.Join(socketDir(t), socketName)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	h = newFakeHost()
	ended := serveFor(t.Context(), t, path, h)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(limit))
	for _, line := range lines {
		_, _ = c.Write([]byte(line))
	}
	_ = c.(*net.UnixConn).CloseWrite()
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			break
		}
	}
	return b.String(), h, end(t, ended)
}

func TestBadMessages(t *testing.T) {
	hello := `{"id":1,"op":"hello","version":1}` + "\n"
	for name, tt := range map[string]struct {
		lines  []string
		answer string // part of the last answer
		err    string // part of how the helper ends; empty: nil
	}{
		"nothing":       {nil, "", ""},
		"half a line":   {[]string{`{"id":1`}, "", ""},
		"no hello":      {[]string{`{"id":1,"op":"open-tun","mtu":1500}` + "\n"}, "before hello", "before hello"},
		"close first":   {[]string{`{"id":1,"op":"close"}` + "\n"}, "before hello", "before hello"},
		"other version": {[]string{`{"id":1,"op":"hello","version":2}` + "\n"}, "version 2", ""},
		"hello twice":   {[]string{hello, hello}, "twice", ""},
		"not json":      {[]string{"GET / HTTP/1.1\r\n"}, "message", "message"},
		"unknown word":  {[]string{hello, `{"id":2,"op":"exec"}` + "\n"}, "no such request", "no such request"},
		"unknown field": {[]string{hello, `{"id":2,"op":"close","path":"/"}` + "\n"}, "unknown field", "unknown field"},
		"too long":      {[]string{hello, strings.Repeat("x", maxLine+1)}, "", "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			leaks(t)
			answers, h, err := raw(t, tt.lines...)
			if !strings.Contains(answers, tt.answer) {
				t.Errorf("answers %q, want %q", answers, tt.answer)
			}
			switch {
			case tt.err == "" && err != nil:
				t.Errorf("helper ended with %v", err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("helper ended with %v, want %q", err, tt.err)
			}
			if got := h.steps(); !slices.Equal(got, []string{"close"}) {
				t.Errorf("host: %q", got)
			}
		})
	}
}

func TestServeRefusesPlaces(t *testing.T) {
	leaks(t)
	listen := func(dir string) string {
		t.Helper()
		path := filepath.Join(dir, socketName)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return path
	}
	fine := socketDir(t)
	open := socketDir(t)
	if err := os.Chmod(open, 0o750); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(fine, link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(socketDir(t), "plain")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path := listen(fine)
	for name, tt := range map[string]struct {
		path string
		uid  int
		want string
	}{
		"missing":       {filepath.Join(socketDir(t), "none"), os.Getuid(), "no such file"},
		"no folder":     {"/nonexistent/none", os.Getuid(), "no such file"},
		"relative":      {"helper.sock", os.Getuid(), "absolute"},
		"unclean":       {fine + "/../s/helper.sock", os.Getuid(), "clean"},
		"open folder":   {listen(open), os.Getuid(), "0700"},
		"linked folder": {filepath.Join(link, socketName), os.Getuid(), "not a folder"},
		"no socket":     {file, os.Getuid(), "not a socket"},
		"other user":    {path, os.Getuid() + 1, "belongs to uid"},
	} {
		h := newFakeHost()
		err := Serve(t.Context(), tt.path, tt.uid, h, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		<-h.closed
	}
}

func TestPeerChecks(t *testing.T) {
	leaks(t)
	l, err := Listen(socketDir(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if l.peer != 0 {
		t.Errorf("a session takes uid %d as its helper", l.peer)
	}
	// This process is not the user that is expected: it is turned away.
	l.peer = os.Getuid() + 1
	conn, err := net.Dial("unix", l.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := l.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("accept: %v", err)
	}
	_ = conn.SetDeadline(time.Now().Add(limit))
	if n, err := conn.Read(make([]byte, 1)); err == nil || n > 0 {
		t.Error("a stranger was spoken to")
	}
	c := conn.(*net.UnixConn)
	if err := checkPeer(c, os.Getuid()+1); err == nil {
		t.Error("a peer of another user passed")
	}
}

func TestListenRefusesFolders(t *testing.T) {
	open := socketDir(t)
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(open); err == nil {
		t.Error("listens in a folder that others may enter")
	}
	if _, err := Listen(filepath.Join(socketDir(t), strings.Repeat("x", 120))); err == nil {
		t.Error("listens on a path that is too long")
	}
	dir := filepath.Join(t.TempDir(), "n")
	for range 2 { // the second finds the first one's socket
		l, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("folder: %v, %v", info.Mode(), err)
		}
		l.l.SetUnlinkOnClose(false) // as after a crash
		_ = l.Close()
	}
}

func TestRequestTooLong(t *testing.T) {
	leaks(t)
	c, ended := converse(t, newFakeHost())
	d := DNS{Search: []string{strings.Repeat("a", maxLine)}}
	if e, ok := errors.AsType[*Error](c.SetDNS(t.Context(), d)); !ok || !e.Refused {
		t.Error("sent")
	}
	// The conversation goes on. A network of the largest size fits.
	n := tun.Network{Addrs: good().Addrs}
	longest := netip.MustParsePrefix("fd00:1234:5678:9abc:def0:1234:5678:1234/128")
	n.Routes = slices.Repeat([]netip.Prefix{longest}, maxRanges)
	line, err := json.Marshal(request{ID: 1 << 60, Op: opSetNetwork, Network: &n})
	if err != nil || len(line) > maxLine {
		t.Errorf("largest network: %d bytes, %v", len(line), err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := end(t, ended); err != nil {
		t.Error(err)
	}
}
