package portforward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	pfconst "k8s.io/apimachinery/pkg/util/portforward"
	clientpf "k8s.io/client-go/tools/portforward"
)

// attempt is one try at an upgrade. It travels in the request's context, so
// that one chain of client-go's credential wrappers serves all attempts.
type attempt struct {
	protocol Protocol

	mu    sync.Mutex
	raw   net.Conn // guarded by mu; closed by abort
	ended bool     // guarded by mu

	conn   *carrier
	reader *bufio.Reader // holds what was read behind the HTTP answer
}

type attemptKey struct{}

func (a *attempt) register(raw net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.raw = raw
	if a.ended {
		_ = raw.Close()
	}
}

// abort closes the socket, now or as soon as there is one.
func (a *attempt) abort() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	if a.raw != nil {
		_ = a.raw.Close()
	}
}

// upgrade does one attempt: connect, ask, and open the streams. The end of
// ctx closes the socket, whatever the attempt waits for.
func (d *Dialer) upgrade(ctx context.Context, p Protocol, target Addr) (net.Conn, error) {
	a := &attempt{protocol: p}
	stop := context.AfterFunc(ctx, a.abort)
	conn, err := d.ask(ctx, a, target)
	// stop is false when ctx has ended, perhaps with the conn already won.
	if ended := !stop(); ended || err != nil {
		a.abort()
		if ended {
			err = errors.Join(context.Cause(ctx), notClosed(err))
		}
		return nil, err
	}
	return conn, nil
}

// notClosed drops the error that is only the consequence of closing the
// socket when the context ended.
func notClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

func (d *Dialer) ask(ctx context.Context, a *attempt, target Addr) (net.Conn, error) {
	u := *d.base
	u.Path = path.Join(u.Path, "namespaces", target.Namespace, "pods", target.Pod, "portforward")
	method := http.MethodPost
	if a.protocol == WebSocket {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(context.WithValue(ctx, attemptKey{}, a), method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if a.protocol == SPDY {
		req.Header.Set(httpstream.HeaderProtocolVersion, clientpf.PortForwardProtocolV1Name)
	}
	resp, err := d.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if a.conn == nil || !accepted(a.protocol, resp) {
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode == http.StatusSwitchingProtocols {
			return nil, &upgradeError{a.protocol, "another protocol was chosen"}
		}
		resp.Request = req
		return nil, refusal(a.protocol, resp, target)
	}
	return openStreams(a, target)
}

// accepted reports whether the answer is the upgrade that was asked for.
func accepted(p Protocol, resp *http.Response) bool {
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return false
	}
	if p == WebSocket {
		return resp.Header.Get("Sec-Websocket-Protocol") == tunnelProtocol
	}
	return strings.EqualFold(resp.Header.Get(httpstream.HeaderUpgrade), spdy.HeaderSpdy31) &&
		resp.Header.Get(httpstream.HeaderProtocolVersion) == clientpf.PortForwardProtocolV1Name
}

const tunnelProtocol = pfconst.WebsocketsSPDYTunnelingPrefix + clientpf.PortForwardProtocolV1Name

// wsBuffer holds a frame of the tunnel above and the headers around it.
const wsBuffer = 33 << 10

// upgrader is the innermost RoundTripper, below client-go's credentials.
type upgrader struct{ d *Dialer }

// RoundTrip asks for the upgrade named by the attempt in the request's
// context and leaves the connection there. The answer's body may be read
// until the attempt is aborted.
func (u upgrader) RoundTrip(req *http.Request) (*http.Response, error) {
	a, ok := req.Context().Value(attemptKey{}).(*attempt)
	if !ok {
		return nil, errors.New("request is not an upgrade")
	}
	req = utilnet.CloneRequest(req)
	conn, err := u.d.connect(req.Context(), req, a.register)
	if err != nil {
		return nil, err
	}
	if a.protocol == WebSocket {
		return roundTripWebSocket(a, conn, req)
	}
	return roundTripSPDY(a, conn, req)
}

func roundTripSPDY(a *attempt, conn *carrier, req *http.Request) (*http.Response, error) {
	req.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
	req.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	r := bufio.NewReaderSize(conn, readBuffer)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read answer: %w", err)
	}
	a.conn, a.reader = conn, r
	return resp, nil
}

func roundTripWebSocket(a *attempt, conn *carrier, req *http.Request) (*http.Response, error) {
	use := func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	dialer := websocket.Dialer{
		NetDialContext: use, NetDialTLSContext: use,
		Subprotocols:   []string{tunnelProtocol},
		ReadBufferSize: wsBuffer, WriteBufferSize: wsBuffer,
	}
	u := *req.URL
	u.Scheme = "ws" + strings.TrimPrefix(u.Scheme, "http")
	ws, resp, err := dialer.DialContext(req.Context(), u.String(), req.Header)
	if err != nil {
		if resp != nil && errors.Is(err, websocket.ErrBadHandshake) {
			return resp, nil // judged by the caller, seen by the credential plugin
		}
		return nil, err
	}
	a.conn = &carrier{Conn: clientpf.NewTunnelingConnection("portforward", ws), raw: conn.raw, gather: conn.gather}
	a.reader = bufio.NewReaderSize(a.conn, readBuffer)
	return resp, nil
}
