package agent

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// routings are the ways of a request: to the app itself, and through an agent in each
// case.
var routings = []struct {
	name, user string
	rules      []string // whose requests are taken; "" is all
}{
	{"app alone", "", nil},
	{"pass-through", "x", []string{}},
	{"no match", "x", []string{"alice"}},
	{"match", "alice", []string{"alice"}},
	{"all", "alice", []string{""}},
}

// routed returns the address to reach the app's port at, by a way of routings.
func routed(b *testing.B, port uint16, rules []string, serve func(*tunnel.Tunnel)) string {
	if rules == nil {
		return hostPort(podIP, port)
	}
	a := startAgent(b, Config{Captures: []api.Capture{{App: port}}})
	tun := a.connect(b, "s")
	serve(tun)
	for _, user := range rules {
		r := take("i", port)
		if user != "" {
			r = requestsOf("i", user, port)
		}
		mustRegister(b, tun, r)
	}
	return a.capturePort()
}

// BenchmarkRequest is a small request on a connection that is kept alive, all on
// this machine.
func BenchmarkRequest(b *testing.B) {
	for _, way := range routings {
		b.Run(way.name, func(b *testing.B) {
			address := routed(b, httpApp(b), way.rules, func(tun *tunnel.Tunnel) { answers(tun, "me") })
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			in := bufio.NewReader(conn)
			for b.Loop() {
				askAs(b, conn, in, way.user)
			}
		})
	}
}

// BenchmarkRequestHTTP2 is the same with HTTP/2, one request after the other and 32 at
// a time on one connection.
func BenchmarkRequestHTTP2(b *testing.B) {
	server := func(name string) *http.Server {
		s := &http.Server{ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols), Handler: http.HandlerFunc(
			func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) },
		)}
		s.Protocols.SetUnencryptedHTTP2(true)
		b.Cleanup(func() { _ = s.Close() })
		return s
	}
	for _, way := range routings {
		for _, together := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/%d", way.name, together), func(b *testing.B) {
				l, err := net.Listen("tcp", hostPort(podIP, 0))
				if err != nil {
					b.Fatal(err)
				}
				go func() { _ = server("app").Serve(l) }()
				address := routed(b, portOf(l.Addr()), way.rules, func(tun *tunnel.Tunnel) {
					go func() { _ = server("me").Serve(flowListener{tun}) }()
				})
				transport := &http.Transport{Protocols: new(http.Protocols)}
				transport.Protocols.SetUnencryptedHTTP2(true)
				defer transport.CloseIdleConnections()
				ask := func() {
					req, _ := http.NewRequest(http.MethodGet, "http://"+address+"/", nil)
					req.Header.Set("X-User", way.user)
					resp, err := transport.RoundTrip(req)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				ask() // makes the connection
				if together == 1 {
					for b.Loop() {
						ask()
					}
					return
				}
				b.SetParallelism(together / 2) // on the two processors that it is meant for
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						ask()
					}
				})
			})
		}
	}
}
