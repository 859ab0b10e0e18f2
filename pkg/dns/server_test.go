package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// told answers every question with a TXT record that says who was asked.
func told(who string) Exchange {
	return func(_ context.Context, q *mdns.Msg) (*mdns.Msg, error) {
		m := new(mdns.Msg).SetReply(q)
		m.Id = 0
		m.Answer = []mdns.RR{txt(q.Question[0].Name, who)}
		if opt := q.IsEdns0(); opt != nil {
			m.SetEdns0(1232, opt.Do())
		}
		return m, nil
	}
}

func txt(name string, text ...string) mdns.RR {
	return &mdns.TXT{Hdr: mdns.RR_Header{Name: name, Rrtype: mdns.TypeTXT, Class: mdns.ClassINET, Ttl: 5}, Txt: text}
}

func newServer(t *testing.T, cluster, upstream Exchange) *Server {
	t.Helper()
	services := netip.MustParsePrefix("10.96.0.0/16")
	pods := netip.MustParsePrefix("fd00:10::/64")
	s, err := NewServer(Config{
		Domain: "Cluster.Local", Cluster: cluster, Upstream: upstream,
		Reverse: func(a netip.Addr) bool { return services.Contains(a) || pods.Contains(a) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve runs s on loopback and returns the address, the same for UDP and TCP.
func serve(t *testing.T, s *Server) string {
	t.Helper()
	var l net.Listener
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err == nil {
		l, err = net.Listen("tcp", pc.LocalAddr().String())
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, pc, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return pc.LocalAddr().String()
}

func question(name string, kind uint16) *mdns.Msg {
	return new(mdns.Msg).SetQuestion(name, kind)
}

func ask(t *testing.T, network, addr string, q *mdns.Msg) *mdns.Msg {
	t.Helper()
	c := mdns.Client{Net: network, Timeout: 10 * time.Second}
	a, _, err := c.Exchange(q, addr)
	if err != nil {
		t.Fatalf("%s over %s: %v", q.Question[0].Name, network, err)
	}
	if a.Id != q.Id {
		t.Errorf("id %d, want %d", a.Id, q.Id)
	}
	return a
}

func TestNewServerChecks(t *testing.T) {
	for _, cfg := range []Config{
		{Domain: "", Cluster: told("c"), Upstream: told("u")},
		{Domain: ".", Cluster: told("c"), Upstream: told("u")},
		{Domain: strings.Repeat("x", 64), Cluster: told("c"), Upstream: told("u")},
		{Domain: "cluster.local", Cluster: told("c")},
		{Domain: "cluster.local", Upstream: told("u")},
	} {
		if _, err := NewServer(cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}

func TestServerAsksTheRightSide(t *testing.T) {
	s := newServer(t, told("cluster"), told("upstream"))
	addr := serve(t, s)
	tests := []struct{ name, want string }{
		{"front.shop.svc.cluster.local.", "cluster"},
		{"FRONT.shop.SVC.Cluster.LOCAL.", "cluster"},
		{"www.example.com.shop.svc.cluster.local.", "cluster"},
		{"cluster.local.", "cluster"},
		{"notcluster.local.", "upstream"},
		{"cluster.local.example.com.", "upstream"},
		{"www.example.com.", "upstream"},
		{"local.", "upstream"},
		{"front.", "upstream"},
		{".", "upstream"},
		{"10.0.96.10.in-addr.arpa.", "cluster"},
		{"b._dns-sd._udp.0.0.96.10.in-addr.arpa.", "cluster"},
		{"1.1.168.192.in-addr.arpa.", "upstream"},
		{"96.10.in-addr.arpa.", "upstream"},
		{"x.0.96.10.in-addr.arpa.", "upstream"},
		{"010.0.96.10.in-addr.arpa.", "upstream"},
		{mustReverse(t, "fd00:10::7"), "cluster"},
		{strings.ToUpper(mustReverse(t, "fd00:10::a")), "cluster"},
		{mustReverse(t, "2001:db8::7"), "upstream"},
		{"z." + strings.Repeat("0.", 31) + "ip6.arpa.", "upstream"},
		{strings.Repeat("z.", 32) + "ip6.arpa.", "upstream"},
	}
	for _, network := range []string{"udp", "tcp"} {
		for _, tt := range tests {
			a := ask(t, network, addr, question(tt.name, mdns.TypeTXT))
			if len(a.Answer) != 1 || a.Answer[0].(*mdns.TXT).Txt[0] != tt.want {
				t.Errorf("%s over %s: %v, want %s", tt.name, network, a.Answer, tt.want)
			}
		}
	}
	if got := s.Stats(); got.Queries != uint64(2*len(tests)) || got.Cluster+got.Upstream != got.Queries || got.Failed+got.Refused != 0 {
		t.Errorf("stats %+v", got)
	}
}

func mustReverse(t *testing.T, addr string) string {
	t.Helper()
	name, err := mdns.ReverseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// A name of the cluster that a resolver library has completed with a search
// domain of the office is answered without asking anybody.
func TestServerKeepsCompletedNames(t *testing.T) {
	nobody := func(_ context.Context, q *mdns.Msg) (*mdns.Msg, error) {
		t.Errorf("somebody was asked for %s", q.Question[0].Name)
		return nil, errors.New("not to be asked")
	}
	s, err := NewServer(Config{Domain: "cluster.local", Cluster: nobody, Upstream: told("upstream"), Search: []string{"", "office.example", "Lab.Example."}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{
		"front.shop.svc.cluster.local.office.example.": mdns.RcodeNameError,
		"cluster.local.lab.example.":                   mdns.RcodeNameError,
		"Front.Cluster.LOCAL.Office.Example.":          mdns.RcodeNameError,
		"front.shop.office.example.":                   mdns.RcodeSuccess,
		"mycluster.local.office.example.":              mdns.RcodeSuccess,
		"cluster.local.example.":                       mdns.RcodeSuccess,
		"office.example.":                              mdns.RcodeSuccess,
	} {
		if got := s.answer(t.Context(), question(name, mdns.TypeTXT)); got.Rcode != want {
			t.Errorf("%s: %s, not %s", name, mdns.RcodeToString[got.Rcode], mdns.RcodeToString[want])
		}
	}
}

func TestServerForwardsMessagesAsTheyAre(t *testing.T) {
	var got atomic.Pointer[mdns.Msg]
	s := newServer(t, func(_ context.Context, q *mdns.Msg) (*mdns.Msg, error) {
		got.Store(q)
		m := new(mdns.Msg).SetRcode(q, mdns.RcodeNameError)
		m.AuthenticatedData, m.Authoritative = true, true
		m.Ns = []mdns.RR{&mdns.SOA{Hdr: mdns.RR_Header{Name: "cluster.local.", Rrtype: mdns.TypeSOA, Class: mdns.ClassINET, Ttl: 30}, Ns: "ns.", Mbox: "m."}}
		m.SetEdns0(4000, true)
		return m, nil
	}, told("upstream"))
	q := question("NoSuch.shop.svc.cluster.local.", 65) // HTTPS
	q.SetEdns0(1400, true)
	q.CheckingDisabled, q.RecursionDesired = true, false
	a := ask(t, "udp", serve(t, s), q)
	if q2 := got.Load(); q2.Question[0] != q.Question[0] || !q2.CheckingDisabled || q2.RecursionDesired || q2.IsEdns0().UDPSize() != 1400 || !q2.IsEdns0().Do() {
		t.Errorf("forwarded question:\n%v", q2)
	}
	if a.Rcode != mdns.RcodeNameError || !a.AuthenticatedData || !a.Authoritative || len(a.Ns) != 1 || a.IsEdns0() == nil {
		t.Errorf("answer:\n%v", a)
	}
}

func TestServerTruncatesOverUDPOnly(t *testing.T) {
	s := newServer(t, func(_ context.Context, q *mdns.Msg) (*mdns.Msg, error) {
		m := new(mdns.Msg).SetReply(q)
		for i := range 20 {
			m.Answer = append(m.Answer, txt(q.Question[0].Name, fmt.Sprint(i), strings.Repeat("x", 100)))
		}
		return m, nil
	}, told("upstream"))
	addr := serve(t, s)
	name := "big.cluster.local."
	if a := ask(t, "udp", addr, question(name, mdns.TypeTXT)); !a.Truncated || len(a.Answer) == 20 {
		t.Errorf("512 bytes: truncated %v, %d records", a.Truncated, len(a.Answer))
	}
	q := question(name, mdns.TypeTXT)
	q.SetEdns0(4096, false)
	if a := ask(t, "udp", addr, q); a.Truncated || len(a.Answer) != 20 {
		t.Errorf("4096 bytes: truncated %v, %d records", a.Truncated, len(a.Answer))
	}
	if a := ask(t, "tcp", addr, question(name, mdns.TypeTXT)); a.Truncated || len(a.Answer) != 20 {
		t.Errorf("TCP: truncated %v, %d records", a.Truncated, len(a.Answer))
	}
}

func TestServerPipelinesOverTCP(t *testing.T) {
	addr := serve(t, newServer(t, told("cluster"), told("upstream")))
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conn := &mdns.Conn{Conn: raw}
	defer func() { _ = conn.Close() }()
	waiting := map[uint16]bool{}
	for i := range 200 {
		q := question(fmt.Sprintf("n%d.cluster.local.", i), mdns.TypeTXT)
		waiting[q.Id] = true
		if err := conn.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
	}
	for len(waiting) > 0 {
		a, err := conn.ReadMsg()
		if err != nil {
			t.Fatalf("%d answers missing: %v", len(waiting), err)
		}
		delete(waiting, a.Id)
	}
}

func TestServerRefuses(t *testing.T) {
	never := func(context.Context, *mdns.Msg) (*mdns.Msg, error) { return nil, errors.New("asked") }
	s := newServer(t, never, never)
	addr := serve(t, s)
	notify := new(mdns.Msg).SetNotify("cluster.local.")
	two := question("a.cluster.local.", mdns.TypeA)
	two.Question = append(two.Question, two.Question[0])
	edns := question("a.cluster.local.", mdns.TypeA)
	edns.SetEdns0(1232, false)
	tests := []struct {
		name string
		q    *mdns.Msg
		want int
	}{
		{"transfer", question("cluster.local.", mdns.TypeAXFR), mdns.RcodeRefused},
		{"notify", notify, mdns.RcodeNotImplemented},
		{"two questions", two, mdns.RcodeFormatError},
		{"cluster fails", question("a.cluster.local.", mdns.TypeA), mdns.RcodeServerFailure},
		{"upstream fails", question("a.example.com.", mdns.TypeA), mdns.RcodeServerFailure},
		{"with EDNS", edns, mdns.RcodeServerFailure},
	}
	for _, tt := range tests {
		a := ask(t, "udp", addr, tt.q)
		if a.Rcode != tt.want || (a.IsEdns0() != nil) != (tt.q.IsEdns0() != nil) {
			t.Errorf("%s:\n%v\nwant %s", tt.name, a, mdns.RcodeToString[tt.want])
		}
	}
	// Junk neither stops the server nor gets more than an error.
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, junk := range []string{"", "x", strings.Repeat("\x00", 12), strings.Repeat("\xff", 600), "\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c"} {
		_, _ = conn.Write([]byte(junk))
	}
	ask(t, "udp", addr, question("a.cluster.local.", mdns.TypeA))
	if got := s.Stats(); got.Failed != 4 || got.Refused != 2 {
		t.Errorf("stats %+v", got)
	}
}

func TestServerAnswersWithinItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(ctx context.Context, _ *mdns.Msg) (*mdns.Msg, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, told("upstream"))
		began := time.Now()
		a := s.answer(t.Context(), question("a.cluster.local.", mdns.TypeA))
		if took := time.Since(began); a.Rcode != mdns.RcodeServerFailure || took != answerLimit {
			t.Errorf("%s after %s", mdns.RcodeToString[a.Rcode], took)
		}
	})
}

func TestServerAsksIdenticalQuestionsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var asked atomic.Int32
		s := newServer(t, func(ctx context.Context, q *mdns.Msg) (*mdns.Msg, error) {
			asked.Add(1)
			<-release
			return told("cluster")(ctx, q)
		}, told("upstream"))
		other := question("a.cluster.local.", mdns.TypeTXT)
		other.SetEdns0(1232, true)
		var wg sync.WaitGroup
		for i := range 11 {
			wg.Go(func() {
				q := question("a.cluster.local.", mdns.TypeTXT)
				if i == 10 {
					q = other
				}
				a := s.answer(t.Context(), q)
				a.Answer[0].Header().Name = "changed." // answers are not shared
			})
		}
		synctest.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("asked %d times, want twice: with EDNS and without", n)
		}
		close(release)
		wg.Wait()
		if got := s.Stats(); got.Shared != 9 || got.Cluster != 11 {
			t.Errorf("stats %+v", got)
		}
		if a := s.answer(t.Context(), question("a.cluster.local.", mdns.TypeTXT)); a.Answer[0].Header().Name != "a.cluster.local." {
			t.Error("an answer outlived its question")
		}
	})
}

func TestServeEndsWhenASocketFails(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := newServer(t, told("c"), told("u")).Serve(t.Context(), pc, l); err == nil {
		t.Error("no error")
	}
}
