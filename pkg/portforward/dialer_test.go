package portforward

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const podPath = "/api/v1/namespaces/shop/pods/front-1/portforward"

func TestDialFallsBackAndRemembers(t *testing.T) {
	forbidPOST := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			writeStatus(w, http.StatusForbidden, metav1.StatusReasonForbidden, "cannot create pods/portforward")
			return true
		}
		return false
	}
	asked := false
	tests := []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request) bool
		want   string // requests of two dials
	}{
		{"spdy works", nil, "POST, POST"},
		{"create forbidden", forbidPOST, "POST, GET, POST, GET"},
		{"proxy answers a page", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				http.Error(w, "<html>bad gateway</html>", http.StatusBadGateway)
			}
			return r.Method == http.MethodPost
		}, "POST, GET, POST, GET"},
		{"proxy strips the upgrade", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				writeStatus(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "Upgrade request required")
			}
			return r.Method == http.MethodPost
		}, "POST, GET, POST, GET"},
		{"pod not known yet", func(w http.ResponseWriter, _ *http.Request) bool {
			if asked {
				return false
			}
			asked = true
			http.Error(w, `pod not found ("front-1_shop")`, http.StatusInternalServerError)
			return true
		}, "POST, GET, POST, POST"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newAPIServer(t)
			s.answer = tt.answer
			d := s.dialer(t)
			for range 2 {
				conn, err := d.Dial(t.Context(), "shop", "front-1", 8080)
				if err != nil {
					t.Fatal(err)
				}
				roundTrip(t, conn, 300<<10)
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
			}
			if got := strings.ReplaceAll(s.seen(), " "+podPath, ""); got != tt.want {
				t.Errorf("requests: %s, want %s", got, tt.want)
			}
		})
	}
}

func TestDialForgetsWebSocketWhenItStopsWorking(t *testing.T) {
	s := newAPIServer(t)
	refused := http.MethodPost
	s.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == refused {
			http.Error(w, "no", http.StatusBadGateway)
		}
		return r.Method == refused
	}
	d := s.dialer(t)
	for _, tt := range []struct {
		refused string
		want    Protocol
	}{{http.MethodPost, WebSocket}, {http.MethodGet, SPDY}} {
		refused = tt.refused
		conn, err := d.Dial(t.Context(), "shop", "front-1", 8080)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if d.Protocol() != tt.want {
			t.Errorf("with %s refused: protocol %s, want %s", tt.refused, d.Protocol(), tt.want)
		}
	}
}

func TestDialErrors(t *testing.T) {
	status := func(code int, reason metav1.StatusReason, message string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			writeStatus(w, code, reason, message)
			return true
		}
	}
	tests := []struct {
		name     string
		answer   func(http.ResponseWriter, *http.Request) bool
		is       func(error) bool
		contains string
		requests int
	}{
		{"forbidden both ways", status(403, metav1.StatusReasonForbidden, `user "alice" cannot create`), apierrors.IsForbidden, `user "alice" cannot create`, 2},
		{"forbidden without a status", func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "blocked by policy", http.StatusForbidden)
			return true
		}, apierrors.IsForbidden, "blocked by policy", 2},
		{"no such pod", status(404, metav1.StatusReasonNotFound, `pods "front-1" not found`), apierrors.IsNotFound, "not found", 1},
		{"no such pod seen only by the second", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				return status(403, metav1.StatusReasonForbidden, "no create")(w, r)
			}
			return status(404, metav1.StatusReasonNotFound, `pods "front-1" not found`)(w, r)
		}, apierrors.IsNotFound, "not found", 2},
		{"token expired for good", status(401, metav1.StatusReasonUnauthorized, "Unauthorized"), apierrors.IsUnauthorized, "Unauthorized", 2},
		{"node unreachable", status(500, metav1.StatusReasonInternalError, "error dialing backend"), apierrors.IsInternalError, "error dialing backend", 1},
		{"neither upgrade known", func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "what?", http.StatusNotImplemented)
			return true
		}, func(error) bool { return true }, "upgrade to spdy refused: 501 Not Implemented: what?", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newAPIServer(t)
			s.answer = tt.answer
			_, err := s.dialer(t).Dial(t.Context(), "shop", "front-1", 8080)
			if err == nil || !tt.is(err) || !strings.Contains(err.Error(), tt.contains) {
				t.Errorf("error %v, want one with %q of the right kind", err, tt.contains)
			}
			if !strings.Contains(err.Error(), "pod shop/front-1 port 8080") {
				t.Errorf("error %q does not name the pod", err)
			}
			if n := strings.Count(s.seen(), podPath); n != tt.requests {
				t.Errorf("%d requests, want %d", n, tt.requests)
			}
		})
	}
}

func TestDialRetriesOnceAfterUnauthorized(t *testing.T) {
	s := newAPIServer(t)
	first := true
	s.answer = func(w http.ResponseWriter, _ *http.Request) bool {
		if !first {
			return false
		}
		first = false
		writeStatus(w, http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized")
		return true
	}
	conn, err := s.dialer(t).Dial(t.Context(), "shop", "front-1", 8080)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, conn, 10)
	_ = conn.Close()
}

func TestDialValidates(t *testing.T) {
	d, err := New(&rest.Config{Host: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []Addr{{"", "p", 1}, {"n", "", 1}, {"n", "p", 0}, {"n", "../x", 1}, {"n/x", "p", 1}, {"..", "p", 1}} {
		if _, err := d.Dial(t.Context(), a.Namespace, a.Pod, a.Port); err == nil {
			t.Errorf("%s: no error", a)
		}
	}
}

// Nothing that the other side leaves out may make Dial wait longer than its context.
func TestDialEndsWithItsContext(t *testing.T) {
	tests := []struct {
		name  string
		start func(t *testing.T, reached func()) *rest.Config
	}{
		{"no TLS answer", func(t *testing.T, reached func()) *rest.Config {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := l.Accept()
				if err != nil {
					return
				}
				reached()
				_, _ = c.Read(make([]byte, 1<<16))
				_, _ = c.Read(make([]byte, 1<<16)) // until the client gives up
				_ = c.Close()
			}()
			t.Cleanup(func() { _ = l.Close(); <-done })
			return &rest.Config{Host: "https://" + l.Addr().String(), TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
		}},
		{"no HTTP answer", func(t *testing.T, reached func()) *rest.Config {
			s := newAPIServer(t)
			s.answer = func(_ http.ResponseWriter, r *http.Request) bool {
				reached()
				<-r.Context().Done()
				return true
			}
			return s.config()
		}},
		{"no stream", func(t *testing.T, reached func()) *rest.Config {
			s := newAPIServer(t)
			s.answer = func(w http.ResponseWriter, _ *http.Request) bool {
				c, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					return true
				}
				_, _ = c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n"))
				reached()
				return true
			}
			return s.config()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cfg := tt.start(t, cancel)
			d, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if _, err = d.Dial(ctx, "shop", "front-1", 8080); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want context.Canceled", err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestDialThroughProxy(t *testing.T) {
	for _, p := range []Protocol{SPDY, WebSocket} {
		t.Run(p.String(), func(t *testing.T) {
			s := newAPIServer(t)
			hosts := make(chan string, 4)
			proxy := proxyServer(t, func(host string) { hosts <- host })
			cfg := s.config()
			cfg.Proxy = func(*http.Request) (*url.URL, error) {
				u, err := url.Parse(proxy.URL)
				u.User = url.UserPassword("me", "secret")
				return u, err
			}
			d, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			d.preferred.Store(uint32(p))
			conn, err := d.Dial(t.Context(), "shop", "front-1", 8080)
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, conn, 100<<10)
			_ = conn.Close()
			if host := <-hosts; "https://"+host != s.URL {
				t.Errorf("proxy was asked for %s", host)
			}
		})
	}
}

func TestDialNamesProxyWithoutItsPassword(t *testing.T) {
	s := newAPIServer(t)
	proxy := proxyServer(t, func(string) {})
	cfg := s.config()
	cfg.Host = "https://127.0.0.1:1"
	cfg.Proxy = func(*http.Request) (*url.URL, error) {
		u, err := url.Parse(proxy.URL)
		u.User = url.UserPassword("me", "secret")
		return u, err
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Dial(t.Context(), "shop", "front-1", 8080)
	if err == nil || !strings.Contains(err.Error(), "502") || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}
