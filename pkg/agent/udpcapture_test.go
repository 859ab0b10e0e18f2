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
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/datagram"
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
	return a.udpClientOf(t, "127.0.0.1")
}

// udpClientOf is one at an address of its own.
func (a *testAgent) udpClientOf(t *testing.T, ip string) udpClient {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(ip)}}
	conn, err := d.Dial("udp", netip.AddrPortFrom(podIP, a.CapturePorts()[0]).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return udpClient{conn}
}

// ask sends text and returns the answer, "" if none comes within the limit.
func (c udpClient) ask(t *testing.T, text string, limit time.Duration) string {
	t.Helper()
	c.send(t, text)
	return c.answer(t, limit)
}

func (c udpClient) send(t *testing.T, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
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
	if big := strings.Repeat("x", datagram.Max-len("alice ")); client.ask(t, big, answerLimit) != "alice "+big {
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

// TestUDPCaptureBound: however many clients there are, each is answered, memory does not grow,
// and one that uses many sockets ends nobody else's association.
func TestUDPCaptureBound(t *testing.T) {
	a, port := startUDPCapture(t, Config{MaxAssociations: 8})
	tun := a.connect(t, "s")
	answering(t, tun, "alice", echo)
	mustRegister(t, tun, takeUDP("i", port))
	victim := a.udpClientOf(t, "127.0.0.9")
	if got := victim.ask(t, "hello", answerLimit); got != "alice hello" {
		t.Fatalf("answered %q", got)
	}
	for range 20 {
		if got := a.udpClient(t).ask(t, "hello", answerLimit); got != "alice hello" {
			t.Fatalf("answered %q", got)
		}
	}
	if got := victim.ask(t, "hello", answerLimit); got != "alice hello" {
		t.Fatalf("the other is answered %q", got)
	}
	if c := a.Info().Captures[0]; c.Active != 3 || c.Holders[0].Taken != 21 {
		t.Errorf("%d associations, %d taken", c.Active, c.Holders[0].Taken)
	}
	for n := range 20 {
		if got := a.udpClientOf(t, fmt.Sprintf("127.0.1.%d", n+1)).ask(t, "hello", answerLimit); got != "alice hello" {
			t.Fatalf("answered %q", got)
		}
	}
	if c := a.Info().Captures[0]; c.Active != 8 {
		t.Errorf("%d associations", c.Active)
	}
}

// TestUDPCaptureOneWay: what is sent to one that never answers is not kept for ever, nor
// instead of what others wait to be sent.
func TestUDPCaptureOneWay(t *testing.T) {
	a, port := startUDPCapture(t, Config{})
	tun := a.connect(t, "s")
	answering(t, tun, "alice", func(*tunnel.Flow, []byte) {})
	flow := mustRegister(t, tun, takeUDP("i", port))
	taken := func() int64 { return a.Info().Captures[0].Holders[0].Taken }
	fill := func() {
		t.Helper()
		for range 20 {
			before, client, big := taken(), a.udpClient(t), strings.Repeat("x", 60_000)
			client.send(t, big)
			waitFor(t, "it is taken", func() bool { return taken() > before })
			client.send(t, big)
		}
		if held := a.unanswered.Held(); held > maxUnanswered {
			t.Errorf("%d bytes are kept", held)
		}
	}
	fill()
	waitFor(t, "what is kept is given up", func() bool { return a.unanswered.Held() == 0 })
	fill()
	_ = flow.Close()
	waitFor(t, "it has left", func() bool { return a.holders() == "-" })
	if big := strings.Repeat("y", 50_000); a.udpClient(t).ask(t, big, answerLimit) != "app "+big {
		t.Error("a full agent has no room for what waits to be sent")
	}
}

// TestUDPCaptureStaysWithApp: while the handler is away, the app sees one client as one, however
// often the session is asked.
func TestUDPCaptureStaysWithApp(t *testing.T) {
	app, err := net.ListenPacket("udp", podIP.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	var seen sync.Map
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { _ = app.Close() })
	serving.Go(func() {
		b := make([]byte, 100)
		for {
			n, from, err := app.ReadFrom(b)
			if err != nil {
				return
			}
			seen.Store(from.String(), true)
			_, _ = app.WriteTo(b[:n], from)
		}
	})
	port := portOf(app.LocalAddr())
	a := startAgent(t, Config{Captures: []api.Capture{{App: port, Protocol: api.UDP}}})
	tun := a.connect(t, "s")
	answering(t, tun, "alice", func(flow *tunnel.Flow, _ []byte) { _ = flow.Reset() })
	mustRegister(t, tun, takeUDP("i", port))
	client := a.udpClient(t)
	waitFor(t, "the session is asked again and again", func() bool {
		if got := client.ask(t, "hello", answerLimit); got != "hello" {
			t.Fatalf("answered %q", got)
		}
		return a.Info().Captures[0].Holders[0].Taken >= 3
	})
	n := 0
	seen.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("the app has seen %d clients", n)
	}
}

// TestUDPCaptureRefusedBeside: a client whose datagram neither the session nor the app takes does
// not disturb another, whom the session serves.
func TestUDPCaptureRefusedBeside(t *testing.T) {
	port, stop := serveUDPApp(t, 0)
	stop()
	a := startAgent(t, Config{Captures: []api.Capture{{App: port, Protocol: api.UDP}}})
	tun := a.connect(t, "s")
	answering(t, tun, "alice", func(flow *tunnel.Flow, p []byte) {
		if string(p) == "alice bad" {
			_ = flow.Reset()
			return
		}
		echo(flow, p)
	})
	mustRegister(t, tun, takeUDP("i", port))
	good, bad := a.udpClient(t), a.udpClient(t)
	for n := range 20 {
		bad.send(t, "bad")
		if got := good.ask(t, "good", answerLimit); got != "alice good" {
			t.Fatalf("round %d: answered %q", n, got)
		}
	}
}

// TestAssociationIsOver: what comes as an association ends begins another, and nothing is kept.
func TestAssociationIsOver(t *testing.T) {
	a, _ := startUDPCapture(t, Config{})
	c := a.captures.list()[0].(*udpCapture)
	one := newAssociation(t.Context(), c, associationKey{c.socket(0, nil), netip.MustParseAddrPort("127.0.0.1:1")}, nil)
	one.end()
	one.run()
	if one.send([]byte("late")) || a.unanswered.Held() != 0 {
		t.Errorf("taken; %d bytes are kept", a.unanswered.Held())
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
	waitFor(t, "it ends, whoever sends", func() bool {
		_, _ = client.Write([]byte("hello"))
		select {
		case err := <-a.done:
			a.done <- err // for the cleanup
			return true
		default:
			return false
		}
	})
}
