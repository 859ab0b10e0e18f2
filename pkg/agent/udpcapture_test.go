package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// startUDPApp answers each datagram with "app " and what it said.
func startUDPApp(t *testing.T) (port uint16) {
	t.Helper()
	port, _ = serveUDPApp(t, 0)
	return port
}

// serveUDPApp is startUDPApp on a port, until stop is called.
func serveUDPApp(t *testing.T, on uint16) (port uint16, stop func()) {
	t.Helper()
	app, err := net.ListenPacket("udp", netip.AddrPortFrom(podIP, on).String())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 64<<10)
		for {
			n, from, err := app.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = app.WriteTo(append([]byte("app "), b[:n]...), from)
		}
	}()
	stop = func() {
		_ = app.Close()
		<-ended
	}
	t.Cleanup(stop)
	return portOf(app.LocalAddr()), stop
}

// udpClient is one address and port that datagrams are sent from.
type udpClient struct{ net.Conn }

func (a *testAgent) udpClient(t *testing.T) udpClient {
	t.Helper()
	conn, err := net.Dial("udp", netip.AddrPortFrom(podIP, a.CapturePorts()[0]).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return udpClient{conn}
}

// ask sends text and returns the answer, "" if none comes within the limit.
func (c udpClient) ask(t *testing.T, text string, limit time.Duration) string {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return c.answer(t, limit)
}

func (c udpClient) answer(t *testing.T, limit time.Duration) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(limit))
	b := make([]byte, 64<<10)
	n, err := c.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return string(b[:n])
}

// answerLimit is how long an answer may take that is to come.
const answerLimit = 10 * time.Second

func takeUDP(id string, port uint16) api.Registration {
	r := take(id, port)
	r.Rules[0].Protocol = api.UDP
	return r
}

// answering accepts the associations that are offered to a session, until stop is called,
// and has each datagram with the name before it done by does; nil refuses them.
func answering(t *testing.T, tun *tunnel.Tunnel, name string, does func(*tunnel.Flow, []byte)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	go func() {
		defer close(ended)
		for {
			r, err := tun.AcceptFlow(ctx)
			if err != nil {
				return
			}
			if does == nil {
				_ = r.Refuse(tunnel.Refused, "")
				continue
			}
			flow, err := r.Accept()
			if err != nil {
				continue
			}
			go func() {
				for {
					p, err := flow.ReadPacket()
					if err != nil {
						return
					}
					does(flow, append([]byte(name+" "), p...))
				}
			}()
		}
	}()
	return stop
}

func echo(flow *tunnel.Flow, p []byte) { _, _ = flow.Write(p) }

func startUDPCapture(t *testing.T, cfg Config) (a *testAgent, port uint16) {
	t.Helper()
	port = startUDPApp(t)
	cfg.Captures = []api.Capture{{App: port, Protocol: api.UDP}}
	return startAgent(t, cfg), port
}

// TestUDPCapture: one client, which keeps its port, is answered by the app, by the session
// that comes, by the app again when the session leaves, by another, and by the app when
// that has vanished.
func TestUDPCapture(t *testing.T) {
	a, port := startUDPCapture(t, Config{PingInterval: 50 * time.Millisecond, PingTimeout: 200 * time.Millisecond})
	client := a.udpClient(t)
	says := func(want string) {
		t.Helper()
		if got := client.ask(t, "hello", answerLimit); got != want+" hello" {
			t.Fatalf("%q answered, not %s", got, want)
		}
	}
	says("app")
	tun := a.connect(t, "s")
	answering(t, tun, "alice", echo)
	flow := mustRegister(t, tun, takeUDP("i", port))
	says("alice")
	says("alice")
	if c := a.Info().Captures[0]; c.Active != 1 || c.IdleSeconds < 0 || len(c.Holders) != 1 || c.Holders[0].Taken != 1 || c.Protocol != api.UDP {
		t.Errorf("told as %+v", c)
	}
	if big := strings.Repeat("x", maxDatagram-len("alice ")); client.ask(t, big, answerLimit) != "alice "+big {
		t.Error("the largest datagram did not come back")
	}
	_ = flow.Close()
	waitFor(t, "it has left", func() bool { return a.holders() == "-" })
	says("app")
	other := a.connect(t, "o")
	answering(t, other, "bob", echo)
	mustRegister(t, other, takeUDP("j", port))
	says("bob")
	_ = other.Close()
	waitFor(t, "its end is seen", func() bool { return a.holders() == "-" })
	says("app")
}

// TestUDPCaptureBesideTCP: a number is a port of TCP and one of UDP, which have holders of
// their own.
func TestUDPCaptureBesideTCP(t *testing.T) {
	port := startUDPApp(t)
	a := startAgent(t, Config{Captures: []api.Capture{{App: port, Protocol: api.UDP}, {App: port}}})
	tun := a.connect(t, "s")
	mustRegister(t, tun, takeUDP("u", port))
	mustRegister(t, tun, take("t", port))
	if got := a.holders(); got != "u t" {
		t.Errorf("held by %s", got)
	}
	_, err := register(t, tun, takeUDP("other", port))
	refusedFor(t, err, tunnel.Conflict, fmt.Sprintf("port %d/udp is intercepted by", port))
	if flow, err := listen(t, tun, api.Capture{App: port, Protocol: api.UDP}); err != nil || flow[0].Listen != a.CapturePorts()[0] {
		t.Errorf("asked for again: %v, %v", flow, err)
	}
}

// TestUDPCaptureNotTaken: nothing is lost that a session does not take, be it at once or
// after it had taken the association; it is asked again later.
func TestUDPCaptureNotTaken(t *testing.T) {
	for name, does := range map[string]func(*tunnel.Flow, []byte){
		"refused": nil,
		"reset":   func(flow *tunnel.Flow, _ []byte) { _ = flow.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			a, port := startUDPCapture(t, Config{})
			tun := a.connect(t, "s")
			stop := answering(t, tun, "alice", does)
			mustRegister(t, tun, takeUDP("i", port))
			client := a.udpClient(t)
			var got []string
			for _, text := range []string{"1", "2", "3"} {
				if _, err := client.Write([]byte(text)); err != nil {
					t.Fatal(err)
				}
			}
			for range 3 {
				got = append(got, client.answer(t, answerLimit))
			}
			slices.Sort(got)
			if !slices.Equal(got, []string{"app 1", "app 2", "app 3"}) {
				t.Errorf("answered %q", got)
			}
			stop()
			answering(t, tun, "alice", echo)
			waitFor(t, "the session is asked again", func() bool { return client.ask(t, "4", answerLimit) == "alice 4" })
		})
	}
}

// TestUDPCaptureRefuses: with Down, nobody answers in place of the handler.
func TestUDPCaptureRefuses(t *testing.T) {
	a, port := startUDPCapture(t, Config{})
	tun := a.connect(t, "s")
	answering(t, tun, "alice", nil)
	r := takeUDP("i", port)
	r.Rules[0].Down = api.Refuse
	flow := mustRegister(t, tun, r)
	client := a.udpClient(t)
	if got := client.ask(t, "hello", 300*time.Millisecond); got != "" {
		t.Errorf("answered %q", got)
	}
	_ = flow.Close()
	waitFor(t, "it has left", func() bool { return a.holders() == "-" })
	if got := client.ask(t, "again", answerLimit); got != "app again" {
		t.Errorf("answered %q", got)
	}
}

// TestUDPCaptureOfNothing: a client learns that the app does not listen, as it would without
// us, and is answered when it does.
func TestUDPCaptureOfNothing(t *testing.T) {
	app, err := net.ListenPacket("udp", podIP.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	port := portOf(app.LocalAddr())
	_ = app.Close()
	a := startAgent(t, Config{Captures: []api.Capture{{App: port, Protocol: api.UDP}}})
	client := a.udpClient(t)
	waitFor(t, "a refusal", func() bool {
		_, err := client.Write([]byte("hello"))
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	serveUDPApp(t, port)
	waitFor(t, "an answer", func() bool {
		_, _ = client.Write([]byte("hello"))
		_ = client.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		b := make([]byte, 100)
		n, err := client.Read(b)
		return err == nil && string(b[:n]) == "app hello"
	})
}

// TestUDPCaptureBound: however many clients there are, memory does not grow, and each is
// answered.
func TestUDPCaptureBound(t *testing.T) {
	a, port := startUDPCapture(t, Config{MaxAssociations: 4})
	for range 20 {
		if got := a.udpClient(t).ask(t, "hello", answerLimit); got != "app hello" {
			t.Fatalf("answered %q", got)
		}
	}
	if n := a.Info().Captures[0].Active; n != 4 {
		t.Errorf("%d associations", n)
	}
	tun := a.connect(t, "s")
	answering(t, tun, "alice", func(*tunnel.Flow, []byte) {})
	mustRegister(t, tun, takeUDP("i", port))
	for range 10 * maxKept {
		if got := a.udpClient(t).ask(t, strings.Repeat("x", 60_000), time.Millisecond); got != "" {
			t.Fatalf("answered %.10q", got)
		}
	}
	if held := a.unanswered.Held(); held > maxUnanswered {
		t.Errorf("%d bytes are kept", held)
	}
	a.end()
	a.waitEnd(t)
	if held := a.unanswered.Held(); held != 0 {
		t.Errorf("%d bytes are kept in the end", held)
	}
}

// TestUDPCaptureDrains: an agent that is asked to end serves those who still send, until the
// app does not.
func TestUDPCaptureDrains(t *testing.T) {
	port, stop := serveUDPApp(t, 0)
	a := startAgent(t, Config{DrainLimit: time.Minute, DrainPoll: 500 * time.Millisecond, Captures: []api.Capture{{App: port, Protocol: api.UDP}}})
	client := a.udpClient(t)
	client.ask(t, "hello", answerLimit)
	a.end()
	for range 20 {
		if got := client.ask(t, "hello", answerLimit); got != "app hello" {
			t.Fatalf("answered %q", got)
		}
	}
	stop()
	a.waitEnd(t)
}

func TestHasUDPPort(t *testing.T) {
	const table = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  123: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
  124: 0A01F40A:1B58 0A01F40B:1B59 01 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
bad line
  125: 00000000000000000000000000000000:1B5A 00000000000000000000000000000000:0000 07 0:0
`
	for port, want := range map[uint16]bool{53: true, 7000: false, 7001: false, 7002: true} {
		if got := hasUDPPort(strings.NewReader(table), port); got != want {
			t.Errorf("port %d: %v", port, got)
		}
	}
}
