//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// TestConnect: what does not answer before connect answers after it, and after
// quit the laptop and the cluster are as before.
func TestConnect(t *testing.T) {
	t.Parallel()
	desk := newDesk(t)
	c := connected{desk, machineOf(t, desk)}
	service, pod := strings.TrimPrefix(serviceURL(t, "front"), "http://"), podAddress(podsOf(t, "front")[0])

	out := func(t *testing.T) {
		t.Helper()
		for _, name := range []string{"front", "front.shop", "front.shop.svc.cluster.local"} {
			if got, err := desk.LookupHost(t.Context(), name); err == nil {
				t.Errorf("%s is %v at a laptop that is not connected", name, got)
			}
		}
		for _, address := range []string{service, pod} {
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			conn, err := desk.Dial(ctx, "tcp", address)
			cancel()
			if err == nil {
				_ = conn.Close()
				t.Errorf("%s answers a laptop that is not connected", address)
			}
		}
	}
	out(t)

	begin := time.Now()
	said := tele(t, desk, "connect")
	front := c.curl(t, "http://front.shop")
	t.Logf("connect to first answer: %.2f s", time.Since(begin).Seconds())
	var echo api.Echo
	if err := json.Unmarshal([]byte(front), &echo); err != nil || !isPodOf("front")(echo.Pod) {
		t.Errorf("http://front.shop answers %s", front)
	}
	for _, want := range []string{"Connected to context ", "(https://192.0.2.1:6443)", "namespace shop"} {
		if !strings.Contains(said, want) {
			t.Errorf("connect does not say %q:\n%s", want, said)
		}
	}
	network := c.network(t)
	job := jobOf(t, network.Agent.Pod)

	t.Run("while", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, connected){
			"Names": testNames, "Addresses": testAddresses, "Headless": testHeadless, "SRV": testSRV,
			"UDP": testUDP, "TLS": testTLS, "TCP": testTCP, "GRPC": testGRPC, "Refused": testRefused,
			"HalfClose": testHalfClose, "Bodies": testBodies, "Many": testMany, "Again": testAgain,
			"Status": testStatus, "DNSOverTCP": testDNSOverTCP, "Chain": testChain,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, c)
			})
		}
	})

	begin = time.Now()
	tele(t, desk, "quit")
	t.Logf("quit: %.1f s", time.Since(begin).Seconds())
	c.asBefore(t, begin, soon)
	out(t)
	agentGone(t, network.Agent.Pod, job)
	if result, err := rig.Run(desk.Tele(t.Context(), "quit")); err != nil || result.Code != 0 || !strings.Contains(result.Stderr, "No session is running") {
		t.Errorf("quit without a session: %+v, %v", result, err)
	}
}

// testNames: each form of a name leads to the Service, and each name goes to
// the resolver that knows it.
func testNames(t *testing.T, c connected) {
	before, err := c.ResolverCounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddrPort(strings.TrimPrefix(serviceURL(t, "front"), "http://")).Addr().String()
	for _, name := range []string{"front", "front.shop", "front.shop.svc", "front.shop.svc.cluster.local", "front.shop.svc.cluster.local."} {
		c.curl(t, "http://"+name)
		if got, err := c.LookupHost(t.Context(), name); err != nil || !slices.Equal(got, []string{address}) {
			t.Errorf("%s is %v, %v, not %s", name, got, err, address)
		}
	}
	if got, err := c.LookupHost(t.Context(), officeName); err != nil || !slices.Equal(got, []string{officeAddress}) {
		t.Errorf("%s is %v, %v, not %s", officeName, got, err, officeAddress)
	}
	// The office's search domain still completes names.
	out := mustRun(t, c.Command(t.Context(), "", "getent", "ahostsv4", "intranet"))
	if !strings.Contains(out, officeAddress) {
		t.Errorf("intranet is %s", out)
	}
	reply := ask(t, c.Desk, "udp", "250.113.0.203.in-addr.arpa", mdns.TypePTR)
	if len(reply.Answer) != 1 {
		t.Errorf("the office's reverse name: %v", reply)
	}
	after, err := c.ResolverCounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after[officeName] <= before[officeName] {
		t.Errorf("the laptop's own resolver was not asked for %s: %v", officeName, after)
	}
	for name, times := range after {
		if times == before[name] {
			continue
		}
		if strings.HasSuffix(name, "cluster.local") || strings.HasPrefix(name, "front") {
			t.Errorf("the laptop's own resolver was asked for %s", name)
		}
	}
}

func testAddresses(t *testing.T, c connected) {
	for _, url := range []string{serviceURL(t, "front"), "http://" + podAddress(podsOf(t, "front")[0]), "http://" + podAddress(podsOf(t, "front")[1])} {
		echo, err := get(t.Context(), c.Desk, url)
		if err != nil || !isPodOf("front")(echo.Pod) {
			t.Errorf("%s answers by %q, %v", url, echo.Pod, err)
		}
	}
	// The reverse name of a Service is the cluster's to answer.
	ip := netip.MustParseAddrPort(strings.TrimPrefix(serviceURL(t, "front"), "http://")).Addr()
	name, err := mdns.ReverseAddr(ip.String())
	if err != nil {
		t.Fatal(err)
	}
	reply := ask(t, c.Desk, "udp", name, mdns.TypePTR)
	if len(reply.Answer) != 1 || reply.Answer[0].(*mdns.PTR).Ptr != "front.shop.svc.cluster.local." {
		t.Errorf("the name of %s: %v", ip, reply)
	}
}

func testHeadless(t *testing.T, c connected) {
	var pods []string
	for _, pod := range podsOf(t, "peers") {
		pods = append(pods, pod.Status.PodIP)
	}
	got, err := c.LookupHost(t.Context(), "peers")
	slices.Sort(pods)
	slices.Sort(got)
	if err != nil || !slices.Equal(got, pods) {
		t.Errorf("peers is %v, %v, not %v", got, err, pods)
	}
	for url, pod := range map[string]string{"http://peers:8080": "", "http://db-0.db:8080": "db-0", "http://db-1.db.shop:8080": "db-1"} {
		echo, err := get(t.Context(), c.Desk, url)
		if err != nil || pod != "" && echo.Pod != pod {
			t.Errorf("%s answers by %q, %v", url, echo.Pod, err)
		}
	}
}

func testSRV(t *testing.T, c connected) {
	reply := ask(t, c.Desk, "udp", "_http._tcp.peers.shop.svc.cluster.local", mdns.TypeSRV)
	if len(reply.Answer) != len(podsOf(t, "peers")) {
		t.Fatalf("SRV of peers: %v", reply)
	}
	for _, rr := range reply.Answer {
		if srv, ok := rr.(*mdns.SRV); !ok || srv.Port != 8080 || !strings.HasSuffix(srv.Target, ".peers.shop.svc.cluster.local.") {
			t.Errorf("SRV of peers: %v", rr)
		}
	}
}

// testDNSOverTCP: a program may ask by TCP; the office's longest name cannot
// be answered otherwise.
func testDNSOverTCP(t *testing.T, c connected) {
	if reply := ask(t, c.Desk, "tcp", "front.shop.svc.cluster.local", mdns.TypeA); len(reply.Answer) != 1 {
		t.Errorf("front by TCP: %v", reply)
	}
	if reply := ask(t, c.Desk, "udp", "long.office.example", mdns.TypeTXT); !reply.Truncated {
		t.Errorf("a long answer by UDP: %d answers, truncated %v", len(reply.Answer), reply.Truncated)
	}
	if reply := ask(t, c.Desk, "tcp", "long.office.example", mdns.TypeTXT); len(reply.Answer) != 1 {
		t.Errorf("a long answer by TCP: %v", reply)
	}
}

func testUDP(t *testing.T, c connected) {
	conn, err := c.Dial(t.Context(), "udp", "udp.shop:7")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, size := range []int{1, 1400, 9000, 60_000} {
		sent := strings.Repeat("u", size)
		got := make([]byte, 65536)
		// A datagram may be lost on a busy machine: it is sent again.
		poll(t, "a datagram comes back", func(context.Context) error {
			if _, err := conn.Write([]byte(sent)); err != nil {
				return err
			}
			if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
				return err
			}
			n, err := conn.Read(got)
			if err == nil && string(got[:n]) != sent {
				t.Errorf("%d bytes came back as %d", size, n)
			}
			return err
		})
	}
}

func testTLS(t *testing.T, c connected) {
	out := c.curl(t, "-ik", "https://kubernetes.default")
	if status, _, _ := strings.Cut(out, "\r\n"); !strings.HasPrefix(status, "HTTP/") || !strings.Contains(status, " 40") {
		t.Errorf("https://kubernetes.default answers %s", out)
	}
}

func testTCP(t *testing.T, c connected) {
	conn, err := c.Dial(t.Context(), "tcp", "tcp.shop:7")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	got := make([]byte, 5)
	for _, sent := range []string{"hello", "again"} {
		if _, err := conn.Write([]byte(sent)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != sent {
			t.Fatalf("%q comes back as %q, %v", sent, got, err)
		}
	}
}

func testGRPC(t *testing.T, c connected) {
	conn, err := grpc.NewClient("passthrough:///grpc.shop:80", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return c.Dial(ctx, "tcp", address) }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answer, err := testgrpc.NewTestServiceClient(conn).UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: []byte("hello")}})
	if err != nil || !isPodOf("grpc")(answer.GetServerId()) || string(answer.GetPayload().GetBody()) != "hello" {
		t.Errorf("gRPC answers %v, %v", answer, err)
	}
}

// testChain: what is asked from the laptop goes on inside the cluster.
func testChain(t *testing.T, c connected) {
	var hop api.Hop
	if err := json.Unmarshal([]byte(c.curl(t, "http://front/chain")), &hop); err != nil {
		t.Fatal(err)
	}
	if hop.Next == nil || hop.Next.Next == nil || !isPodOf("store")(hop.Next.Next.Pod) {
		t.Errorf("the chain ends early: %+v", hop)
	}
}

// testRefused: what nobody listens on is refused at once, by the kernel's own
// word, and not accepted and then closed.
func testRefused(t *testing.T, c connected) {
	closed := net.JoinHostPort(podsOf(t, "front")[0].Status.PodIP, "9")
	for _, address := range []string{closed, "refuse.shop:80"} {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		conn, err := c.Dial(ctx, "tcp", address)
		cancel()
		took := time.Since(begin)
		if err == nil {
			_ = conn.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v after %s, not refused at once", address, err, took)
		}
		t.Logf("%s refused after %d ms", address, took.Milliseconds())
	}
	// UDP says it by ICMP, to the next call on the socket.
	conn, err := c.Dial(t.Context(), "udp", closed)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	poll(t, closed+" is refused by UDP", func(context.Context) error {
		_, _ = conn.Write([]byte("x"))
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("not refused: %w", orThere(err))
		}
		return nil
	})
}

// testAgain: a second connect says that it is connected.
func testAgain(t *testing.T, c connected) {
	begin := time.Now()
	if out := tele(t, c.Desk, "connect"); !strings.Contains(out, "Connected to context") {
		t.Errorf("a second connect says %s", out)
	}
	t.Logf("second connect: %.2f s", time.Since(begin).Seconds())
}

func testStatus(t *testing.T, c connected) {
	out, network := tele(t, c.Desk, "status"), c.network(t)
	for _, want := range []string{"namespace shop", "https://192.0.2.1:6443", network.Device, network.Agent.Pod, "10.96.0.0/16"} {
		if !strings.Contains(out, want) {
			t.Errorf("status does not say %q:\n%s", want, out)
		}
	}
	if !network.Agent.Up || network.Agent.Node == "" || network.Agent.Inject != "pod" || network.Domain != "cluster.local" || !network.DNS.IsValid() {
		t.Errorf("status -o json: %+v", network)
	}
	if wide := tele(t, c.Desk, "status", "-o", "wide"); !strings.Contains(wide, ", lanes ") || strings.Contains(out, ", lanes ") {
		t.Errorf("status -o wide does not say how many lanes there are, or status does:\n%s", wide)
	}
	if id := strings.TrimSpace(tele(t, c.Desk, "status", "-o", "name")); id != sessionOf(t, c.Desk).ID {
		t.Errorf("status -o name: %s", id)
	}
}
