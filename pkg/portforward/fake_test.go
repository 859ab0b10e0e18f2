package portforward

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/client-go/rest"
	clientpf "k8s.io/client-go/tools/portforward"
)

// apiServer is an API server with one kind of pod, whose ports behave as
// serve says. Before that, answer may refuse a request.
type apiServer struct {
	*httptest.Server
	answer func(w http.ResponseWriter, r *http.Request) bool
	serve  func(data, errs httpstream.Stream)

	mu       sync.Mutex
	requests []string
	conns    []net.Conn
}

func newAPIServer(t *testing.T) *apiServer {
	s := &apiServer{serve: echo}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.conns = append(s.conns, c)
		}
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(func() {
		s.cut()
		s.Close()
	})
	return s
}

func (s *apiServer) config() *rest.Config {
	cfg := &rest.Config{Host: s.URL, BearerToken: "alice-token"}
	cfg.Insecure = true
	return cfg
}

func (s *apiServer) dialer(t *testing.T) *Dialer {
	t.Helper()
	d, err := New(s.config())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// seen lists the requests so far as "METHOD PATH".
func (s *apiServer) seen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.requests, ", ")
}

// cut closes every connection, without a word on any layer above TCP.
func (s *apiServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.(*tls.Conn).NetConn().Close()
	}
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if s.answer != nil && s.answer(w, r) {
		return
	}
	if r.Header.Get("Authorization") != "Bearer alice-token" {
		writeStatus(w, http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized")
		return
	}
	streams := make(chan httpstream.Stream, 2)
	accept := func(st httpstream.Stream, replied <-chan struct{}) error {
		go func() {
			<-replied
			// Where the reply could not be sent, closing the stream would wait
			// for it for ever. A second reply tells, and is not sent.
			if st.(interface{ SendReply(http.Header, bool) error }).SendReply(nil, false) == nil {
				streams <- st
			}
		}()
		return nil
	}
	var conn httpstream.Connection
	switch {
	case websocket.IsWebSocketUpgrade(r):
		up := websocket.Upgrader{Subprotocols: []string{tunnelProtocol}}
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		tunnel := clientpf.NewTunnelingConnection("server", ws)
		if conn, err = spdy.NewServerConnection(tunnel, accept); err != nil {
			return
		}
	default:
		if _, err := httpstream.Handshake(r, w, []string{clientpf.PortForwardProtocolV1Name}); err != nil {
			return
		}
		if conn = spdy.NewResponseUpgrader().UpgradeResponse(w, r, accept); conn == nil {
			return
		}
	}
	var data, errs httpstream.Stream
	for data == nil || errs == nil {
		select {
		case st := <-streams:
			if st.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
				errs = st
			} else {
				data = st
			}
		case <-conn.CloseChan():
			return
		}
	}
	s.serve(data, errs)
	_ = data.Reset() // or spdystream waits for ever to deliver what was not read
	<-conn.CloseChan()
}

func echo(data, errs httpstream.Stream) {
	_, _ = io.Copy(data, data)
	_ = data.Close()
	_ = errs.Close()
}

// fail is what a kubelet does when it cannot reach the port.
func fail(message string) func(data, errs httpstream.Stream) {
	return func(data, errs httpstream.Stream) {
		_, _ = io.WriteString(errs, message)
		_ = data.Reset()
		_ = errs.Reset()
	}
}

func writeStatus(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	})
}

// proxyServer is a CONNECT proxy that counts what it forwarded.
func proxyServer(t *testing.T, count func(host string)) *httptest.Server {
	var wg sync.WaitGroup
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") == "" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		count(r.Host)
		up, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		down, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(down, "HTTP/1.1 200 Connection established\r\n\r\n")
		wg.Go(func() { relay(up, rw.Reader, down) })
		wg.Go(func() { relay(down, bufio.NewReader(up), up) })
	}))
	t.Cleanup(func() {
		s.Close()
		wg.Wait()
	})
	return s
}

func relay(dst net.Conn, src *bufio.Reader, srcConn net.Conn) {
	_, _ = src.WriteTo(dst)
	_ = dst.Close()
	_ = srcConn.Close()
}
