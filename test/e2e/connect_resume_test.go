//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/cluster/provider"
	"github.com/kubectl-tele/kubectl-tele/test/netsim"
)

// line is a connection on which little is said, as a shell's over SSH.
type line struct {
	net.Conn
	r    *bufio.Reader
	said int
}

func openLine(t *testing.T, c connected) *line {
	t.Helper()
	conn, err := c.Dial(t.Context(), "tcp", "tcp.shop:7")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	// Go asks for a sign of life after 15 s, and gives up after 9 more; the
	// kernel's default, which ssh uses, is to ask after two hours.
	if err := conn.(*net.TCPConn).SetKeepAlive(false); err != nil {
		t.Fatal(err)
	}
	l := &line{Conn: conn, r: bufio.NewReader(conn)}
	l.lives(t, "when it is new")
	return l
}

// lives fails unless the other end still answers, and only what it was asked.
func (l *line) lives(t *testing.T, when string) {
	t.Helper()
	l.said++
	want := fmt.Sprintf("line %d\n", l.said)
	_ = l.SetDeadline(time.Now().Add(patience))
	begin := time.Now()
	if _, err := io.WriteString(l, want); err != nil {
		t.Fatalf("the connection %s: %v", when, err)
	}
	if got, err := l.r.ReadString('\n'); err != nil || got != want {
		t.Fatalf("the connection %s: heard %q, %v, not %q", when, got, err, want)
	}
	took := time.Since(begin)
	t.Logf("the connection answers %s after %.2f s", when, took.Seconds())
	if took > soon {
		t.Errorf("the connection answers %s after %s, not within %s", when, took, soon)
	}
}

// TestConnectionSurvives: whatever happens between the laptop and the API
// server, connections that are open stay open.
func TestConnectionSurvives(t *testing.T) {
	t.Parallel()
	play := func(script ...netsim.Script) func(*testing.T, connected, *netsim.Relay) {
		return func(t *testing.T, _ connected, relay *netsim.Relay) {
			if err := relay.Run(t.Context(), netsim.Join(script...)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, happens := range map[string]func(*testing.T, connected, *netsim.Relay){
		"Cut":       play(netsim.Every(500*time.Millisecond, 2*time.Second, (*netsim.Relay).Cut)),
		"BlackHole": play(netsim.Frozen(20 * time.Second)),
		"HalfOpen":  play(netsim.Script{{Do: (*netsim.Relay).HalfOpen}}),
		"Refused": play(netsim.Script{
			{Do: func(r *netsim.Relay) { r.Refuse(true); r.Cut() }},
			{After: 15 * time.Second, Do: func(r *netsim.Relay) { r.Refuse(false) }},
		}),
		"Asleep": func(t *testing.T, c connected, _ *netsim.Relay) {
			pid := pidOf(t, c.Desk, sessionArg)
			sendSignal(t, pid, syscall.SIGSTOP)
			wait(t, 3*time.Minute)
			sendSignal(t, pid, syscall.SIGCONT)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, relay := connectBy(t, netsim.Link{})
			l := openLine(t, c)
			happens(t, c, relay)
			l.lives(t, "after all that")
			tele(t, c.Desk, "quit")
			_ = l.SetReadDeadline(time.Now().Add(soon))
			if _, err := l.r.ReadByte(); err == nil || errors.Is(err, syscall.ETIMEDOUT) {
				t.Errorf("after quit the connection ends with %v", err)
			}
			c.asBefore(t, time.Now(), soon)
		})
	}
}

// TestComponentsRestart is not run beside others: they would feel it.
func TestComponentsRestart(t *testing.T) {
	world.Cluster.Need(t, provider.Components)
	c, _ := connectBy(t, netsim.Link{})
	l := openLine(t, c)
	for _, component := range []string{"kubelet-" + c.network(t).Agent.Node, "kube-apiserver"} {
		if err := world.Cluster.Restart(t.Context(), component); err != nil {
			t.Fatal(err)
		}
		l.lives(t, "after a restart of "+component)
	}
	tele(t, c.Desk, "quit")
	c.asBefore(t, time.Now(), soon)
}

// TestTransferSurvives: 1 GiB each way at once, while the network is cut every
// second, swallows everything for 20 s, and the API server is restarted.
func TestTransferSurvives(t *testing.T) {
	const (
		size = 1 << 30
		rate = 40 << 20 // so that it lasts long enough
	)
	c, relay := connectBy(t, netsim.Link{Rate: rate})
	client := &http.Client{Transport: c.Transport(), Timeout: 10 * time.Minute}
	want := api.ContentSum(size)
	var wg sync.WaitGroup
	defer wg.Wait()
	ended := make(chan string, 2)
	transfer := func(way string, move func() (api.Sum, error)) {
		wg.Go(func() {
			begin := time.Now()
			if got, err := move(); err != nil || got != want {
				t.Errorf("%s: %+v, %v, not %+v", way, got, err, want)
			}
			t.Logf("%s: %.1f s", way, time.Since(begin).Seconds())
			ended <- way
		})
	}
	transfer("down", func() (sum api.Sum, err error) {
		reply, err := client.Get(fmt.Sprintf("http://front.shop/big?bytes=%d", size))
		if err != nil {
			return sum, err
		}
		defer func() { _ = reply.Body.Close() }()
		return api.ReadSum(reply.Body)
	})
	transfer("up", func() (sum api.Sum, err error) {
		reply, err := client.Post("http://front.shop/sink", "application/octet-stream", io.LimitReader(api.Content(size), size))
		if err != nil {
			return sum, err
		}
		defer func() { _ = reply.Body.Close() }()
		return sum, json.NewDecoder(reply.Body).Decode(&sum)
	})
	if err := relay.Run(t.Context(), netsim.Join(netsim.Every(time.Second, 10*time.Second, (*netsim.Relay).Cut), netsim.Frozen(20*time.Second))); err != nil {
		t.Fatal(err)
	}
	if why := world.Cluster.Lacks(provider.Components); why != "" {
		t.Logf("NOT DONE: restart of the API server: %s", why)
	} else if err := world.Cluster.Restart(t.Context(), "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	select {
	case way := <-ended:
		t.Fatalf("%s ended before all of it had happened", way)
	default:
	}
	wg.Wait()
	tele(t, c.Desk, "quit")
	c.asBefore(t, time.Now(), soon)
}
