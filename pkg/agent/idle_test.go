package agent

import (
	"context"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

func TestAssociationEndsWhenIdle(t *testing.T) {
	server, err := net.ListenPacket("udp", hostPort(podIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	a := startAgent(t, Config{})
	tun := a.connect(t, "s")
	opened := make(chan *tunnel.Flow, 1)
	go func() {
		// The laptop's end stands for the agent's here, to choose the time.
		f, err := tun.Open(context.Background(), tunnel.Target{Network: "udp", Address: server.LocalAddr().String()})
		if err != nil {
			t.Error(err)
		}
		opened <- f
	}()
	flow := <-opened
	if flow == nil {
		t.FailNow()
	}
	conn, err := net.Dial("udp", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	ended := make(chan error)
	go func() { ended <- relayDatagrams(flow, conn.(*net.UDPConn), 150*time.Millisecond) }()
	for range 5 { // keeps it alive
		time.Sleep(50 * time.Millisecond)
		_, _ = server.WriteTo([]byte("x"), conn.LocalAddr())
	}
	if err := <-ended; err == nil {
		t.Error("ended without a reason")
	}
	if took := time.Since(start); took < 300*time.Millisecond {
		t.Errorf("ended after %v, while in use", took)
	}
}

// TestIdleFlowsAreSmall: connections that do nothing hold neither buffers nor
// goroutines, and wake up again.
func TestIdleFlowsAreSmall(t *testing.T) {
	l, err := net.Listen("tcp", hostPort(podIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	a := startAgent(t, Config{})
	tun := a.connect(t, "s")
	mustInfo(t, tun) // it serves
	goroutines := runtime.NumGoroutine()
	type connection struct {
		flow   *tunnel.Flow
		server net.Conn
	}
	talk := func(c connection) {
		t.Helper()
		_, _ = io.WriteString(c.flow, "x")
		_, _ = io.WriteString(c.server, "y")
		if _, err := c.flow.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.server.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	var all []connection
	for range 200 {
		f, s := dialed(t, tun, l)
		defer func() { _, _ = f.Close(), s.Close() }()
		all = append(all, connection{f, s})
		talk(all[len(all)-1])
	}
	idle := func() bool {
		return a.budget.Held() == 0 && (runtime.GOOS != "linux" || runtime.NumGoroutine() <= goroutines)
	}
	waitFor(t, "buffers and goroutines are given back", idle)
	for _, c := range all {
		talk(c)
	}
	waitFor(t, "buffers and goroutines are given back again", idle)
}

// TestIdleAssociationsAreSmall: a port scan of a range makes thousands.
func TestIdleAssociationsAreSmall(t *testing.T) {
	server, err := net.ListenPacket("udp", hostPort(podIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	a := startAgent(t, Config{})
	tun := a.connect(t, "s")
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	const associations = 200
	buf := make([]byte, 10)
	for range associations {
		f, err := tun.Open(t.Context(), tunnel.Target{Network: "udp", Address: server.LocalAddr().String()})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		_, _ = f.Write([]byte("x"))
		_, from, err := server.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = server.WriteTo([]byte("y"), from)
		if _, err := f.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "each takes less than 16 KiB", func() bool { return heap() < before+associations*16<<10 })
}

// TestIdleForwardedConnectionsAreSmall: nor do those that go to the app as they are.
func TestIdleForwardedConnectionsAreSmall(t *testing.T) {
	l, err := net.Listen("tcp", hostPort(podIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	a := startAgent(t, Config{Captures: []api.Capture{{App: portOf(l.Addr())}}})
	mustInfo(t, a.connect(t, "s")) // it serves
	goroutines := runtime.NumGoroutine()
	for range 100 {
		client, err := net.Dial("tcp", a.capturePort())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		app, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = app.Close() }()
		_, _ = io.WriteString(client, "x")
		_, _ = io.WriteString(app, "y")
		for _, conn := range []net.Conn{client, app} {
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	waitFor(t, "goroutines are given back", func() bool { return runtime.GOOS != "linux" || runtime.NumGoroutine() <= goroutines })
}
