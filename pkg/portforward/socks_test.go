package portforward

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"testing"
)

// socksServer is a SOCKS5 proxy (RFC 1928) with a password (RFC 1929). It
// tells where it was asked to connect to.
func socksServer(t *testing.T, asked chan<- string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serveSOCKS(t, conn, asked) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func serveSOCKS(t *testing.T, down net.Conn, asked chan<- string) {
	defer func() { _ = down.Close() }()
	r := bufio.NewReader(down)
	take := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			t.Errorf("SOCKS: %v", err)
		}
		return b
	}
	say := func(b ...byte) { _, _ = down.Write(b) }
	take(int(take(2)[1]))
	say(5, 2)
	user := string(take(int(take(2)[1])))
	password := string(take(int(take(1)[0])))
	if user != "me" || password != "secret" {
		say(1, 1)
		return
	}
	say(1, 0)
	head := take(4) // version, command, reserved, type of address
	var host string
	switch head[3] {
	case 1:
		host = net.IP(take(4)).String()
	case 3:
		host = string(take(int(take(1)[0])))
	}
	target := net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(take(2)))))
	asked <- target
	up, err := net.Dial("tcp", target)
	if err != nil {
		say(5, 5, 0, 1, 0, 0, 0, 0, 0, 0)
		return
	}
	say(5, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	var both sync.WaitGroup
	both.Go(func() { relay(up, r, down) })
	both.Go(func() { relay(down, bufio.NewReader(up), up) })
	both.Wait()
}

func TestDialThroughSOCKS(t *testing.T) {
	s := newAPIServer(t)
	asked := make(chan string, 1)
	cfg := s.config()
	via := &url.URL{Scheme: "socks5", User: url.UserPassword("me", "secret"), Host: socksServer(t, asked)}
	cfg.Proxy = func(*http.Request) (*url.URL, error) { return via, nil }
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := d.Dial(t.Context(), "shop", "front-1", 8080)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, conn, 100<<10)
	_ = conn.Close()
	if got := <-asked; "https://"+got != s.URL {
		t.Errorf("the proxy was asked for %s, not %s", got, s.URL)
	}
}
