package agent

import (
	"bufio"
	"fmt"
	"net"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// BenchmarkRequest is a small request on a connection that is kept alive, all on
// this machine: to the app itself, and through an agent in each case.
func BenchmarkRequest(b *testing.B) {
	for _, bench := range []struct {
		name, user string
		rules      []string // whose requests are taken; "" is all
	}{
		{"app alone", "", nil},
		{"pass-through", "x", []string{}},
		{"no match", "x", []string{"alice"}},
		{"match", "alice", []string{"alice"}},
		{"all", "alice", []string{""}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			port := httpApp(b)
			address := fmt.Sprintf("127.0.0.2:%d", port)
			if bench.rules != nil {
				a := startAgent(b, Config{Captures: []api.Capture{{App: port}}})
				tun := a.connect(b, "s")
				answers(tun, "me")
				for _, user := range bench.rules {
					r := take("i", port)
					if user != "" {
						r = requestsOf("i", user, port)
					}
					mustRegister(b, tun, r)
				}
				address = fmt.Sprintf("127.0.0.1:%d", a.CapturePorts()[0])
			}
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			in := bufio.NewReader(conn)
			for b.Loop() {
				askAs(b, conn, in, bench.user)
			}
		})
	}
}
