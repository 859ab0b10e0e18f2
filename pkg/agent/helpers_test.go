package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

func TestMain(m *testing.M) {
	beApp()
	goleak.VerifyTestMain(m)
}

var (
	testKey = bytes.Repeat([]byte{9}, 32)
	podIP   = netip.MustParseAddr("127.0.0.2")
)

// testAgent runs an agent in the background. end asks it to end.
type testAgent struct {
	*Agent
	end  context.CancelFunc
	done chan error
}

func startAgent(t testing.TB, cfg Config) *testAgent {
	t.Helper()
	cfg.Key, cfg.AllowLoopback = testKey, true
	cfg.PodIPs = []netip.Addr{podIP}
	if cfg.DrainPoll == 0 {
		cfg.DrainPoll = 5 * time.Millisecond
	}
	if cfg.DrainLimit == 0 {
		cfg.DrainLimit = time.Millisecond
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ta := &testAgent{Agent: a, end: cancel, done: make(chan error, 1)}
	go func() { ta.done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ta.done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("agent did not end")
		}
	})
	return ta
}

// waitEnd waits for Run to return.
func (a *testAgent) waitEnd(t *testing.T) {
	t.Helper()
	select {
	case err := <-a.done:
		a.done <- err // for the cleanup
	case <-time.After(10 * time.Second):
		t.Fatal("agent did not end")
	}
}

func (a *testAgent) connect(t testing.TB, session string) *tunnel.Tunnel {
	t.Helper()
	lane := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", a.ControlPort()))
	}
	tun, err := tunnel.Dial(t.Context(), lane, tunnel.Config{Key: testKey, Session: session})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tun.Close() })
	return tun
}

// capturePort dials the agent's first capture.
func (a *testAgent) capturePort() string {
	return fmt.Sprintf("127.0.0.1:%d", a.CapturePorts()[0])
}

func startIntercept(t *testing.T, tun *tunnel.Tunnel, id string, port uint16, user string) (*tunnel.Flow, error) {
	t.Helper()
	return register(t, tun, api.Registration{
		ID: id, Owner: api.Owner{User: user, Host: "host"}, Rules: []api.Rule{{Port: api.Port{Number: port}, Action: api.Take}},
	})
}

func register(t testing.TB, tun *tunnel.Tunnel, r api.Registration) (*tunnel.Flow, error) {
	t.Helper()
	return openService(t, tun, api.ServiceRegister, r)
}

// openService asks the agent for a service; the request is sent as JSON.
func openService(t testing.TB, tun *tunnel.Tunnel, service string, request any) (*tunnel.Flow, error) {
	t.Helper()
	meta, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	return tun.Open(t.Context(), tunnel.Target{Network: api.NetworkService, Address: service, Meta: meta})
}

// mustInfo asks the agent at the other end of tun for its Info.
func mustInfo(t *testing.T, tun *tunnel.Tunnel) api.Info {
	t.Helper()
	info, err := askInfo(t.Context(), tun)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// serveLocal answers intercepted connections like a laptop's handler that
// says name and echoes.
func serveLocal(t *testing.T, tun *tunnel.Tunnel, name string) {
	t.Helper()
	go func() {
		for {
			r, err := tun.AcceptFlow(context.Background())
			if err != nil {
				return
			}
			flow, err := r.Accept()
			if err != nil {
				continue
			}
			go func() {
				_, _ = io.WriteString(flow, name+"\n")
				_, _ = io.Copy(flow, flow)
				_ = flow.Close()
			}()
		}
	}()
}

// startApp is an app on the pod's address that says "app" and echoes.
func startApp(t *testing.T) (l net.Listener, port uint16) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(podIP.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.WriteString(conn, "app\n")
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return l, portOf(l.Addr())
}

// captured is a connection to the captured port, and the flow that the session,
// whose intercept it is, gets.
func (a *testAgent) captured(t *testing.T, tun *tunnel.Tunnel) (net.Conn, *tunnel.Flow) {
	t.Helper()
	c, err := net.Dial("tcp", a.capturePort())
	if err != nil {
		t.Fatal(err)
	}
	r, err := tun.AcceptFlow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c, f
}

// dialed is a flow to a server, and the server's connection.
func dialed(t *testing.T, tun *tunnel.Tunnel, l net.Listener) (*tunnel.Flow, net.Conn) {
	t.Helper()
	f, err := tun.Open(t.Context(), tunnel.Target{Network: "tcp", Address: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return f, s
}

// ask sends a line through addr, half-closes and returns the whole answer.
func ask(t *testing.T, addr string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, "hello")
	_ = conn.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(conn)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func waitFor(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: did not happen within 10 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func hostPort(ip netip.Addr, port uint16) string {
	return net.JoinHostPort(ip.String(), strconv.Itoa(int(port)))
}

// flowListener makes a listener of a tunnel.
type flowListener struct{ session *tunnel.Tunnel }

func (l flowListener) Accept() (net.Conn, error) {
	r, err := l.session.AcceptFlow(context.Background())
	if err != nil {
		return nil, err
	}
	return r.Accept()
}

func (l flowListener) Close() error { return nil }

func (l flowListener) Addr() net.Addr { return &net.TCPAddr{} }
