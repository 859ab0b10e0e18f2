package dns

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"
)

var resolver = netip.MustParseAddrPort("10.96.0.10:53")

// peers makes a dialer whose connections are pipes to functions: net.Pipe
// keeps the boundaries of messages for readers with room. The returned wait
// returns after every function has.
func peers(serve func(network string, addr netip.AddrPort, conn net.Conn) error) (dialer, func()) {
	var wg sync.WaitGroup
	dial := func(_ context.Context, network string, addr netip.AddrPort) (net.Conn, error) {
		near, far := net.Pipe()
		wg.Go(func() {
			if serve(network, addr, far) == nil {
				_, _ = io.Copy(io.Discard, far)
			}
			_ = far.Close()
		})
		return near, nil
	}
	return dial, wg.Wait
}

func readQuestion(conn net.Conn) (*mdns.Msg, error) {
	buf := make([]byte, mdns.MaxMsgSize)
	n, err := conn.Read(buf)
	if err != nil {
		return nil, err
	}
	q := new(mdns.Msg)
	return q, q.Unpack(buf[:n])
}

func send(conn net.Conn, m *mdns.Msg) error {
	b, err := m.Pack()
	if err == nil {
		_, err = conn.Write(b)
	}
	return err
}

func TestOverTunnelPassesOverWhatIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := question("a.cluster.local.", mdns.TypeTXT)
		dial, wait := peers(func(network string, addr netip.AddrPort, conn net.Conn) error {
			if network != "udp" || addr != resolver {
				t.Errorf("dialed %s %s", network, addr)
			}
			got, err := readQuestion(conn)
			if err != nil {
				return err
			}
			good, err := told("cluster")(t.Context(), got)
			if err != nil {
				return err
			}
			good.Id = got.Id
			forgedID, forgedName, query := good.Copy(), good.Copy(), got.Copy()
			forgedID.Id++
			forgedName.Question[0].Name = "b.cluster.local."
			for _, m := range []*mdns.Msg{forgedID, forgedName, query} {
				if err := send(conn, m); err != nil {
					return err
				}
			}
			if _, err := conn.Write([]byte("junk")); err != nil {
				return err
			}
			good.Question[0].Name = "A.Cluster.Local." // case is no difference
			return send(conn, good)
		})
		a, err := OverTunnel(dial, resolver)(t.Context(), q)
		if err != nil || len(a.Answer) != 1 {
			t.Errorf("answer %v, %v", a, err)
		}
		wait()
	})
}

func TestOverTunnelAsksAgainAndGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var datagrams atomic.Int32
		dial, wait := peers(func(_ string, _ netip.AddrPort, conn net.Conn) error {
			for {
				if _, err := readQuestion(conn); err != nil {
					return err
				}
				datagrams.Add(1)
			}
		})
		began := time.Now()
		_, err := OverTunnel(dial, resolver)(t.Context(), question("a.cluster.local.", mdns.TypeA))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), resolver.String()) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took != answerLimit || datagrams.Load() < 4 {
			t.Errorf("%d datagrams in %s", datagrams.Load(), took)
		}
		wait()
	})
}

func TestOverTunnelUsesTCPWhenTruncated(t *testing.T) {
	for _, tcpWorks := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			dial, wait := peers(func(network string, _ netip.AddrPort, conn net.Conn) error {
				if network == "udp" {
					q, err := readQuestion(conn)
					if err != nil {
						return err
					}
					m := new(mdns.Msg).SetReply(q)
					m.Truncated = true
					return send(conn, m)
				}
				if !tcpWorks {
					return io.EOF
				}
				c := &mdns.Conn{Conn: conn}
				q, err := c.ReadMsg()
				if err != nil {
					return err
				}
				m := new(mdns.Msg).SetReply(q)
				m.Answer = []mdns.RR{txt(q.Question[0].Name, strings.Repeat("x", 200)), txt(q.Question[0].Name, "y")}
				return c.WriteMsg(m)
			})
			a, err := OverTunnel(dial, resolver)(t.Context(), question("a.cluster.local.", mdns.TypeTXT))
			if err != nil || a.Truncated == tcpWorks || (len(a.Answer) == 2) != tcpWorks {
				t.Errorf("TCP works %v: %v, %v", tcpWorks, a, err)
			}
			wait()
		})
	}
}

func TestUpstreams(t *testing.T) {
	answer := func(rcode int) func(net.Conn) error {
		return func(conn net.Conn) error {
			q, err := readQuestion(conn)
			if err != nil {
				return err
			}
			return send(conn, new(mdns.Msg).SetRcode(q, rcode))
		}
	}
	refuse := func(net.Conn) error { return syscall.ECONNREFUSED }
	silent := func(net.Conn) error { return nil }
	slow := func(conn net.Conn) error {
		q, err := readQuestion(conn)
		if err != nil {
			return err
		}
		go func() { _, _ = io.Copy(io.Discard, conn) }() // what is asked again meanwhile
		time.Sleep(1500 * time.Millisecond)
		return send(conn, new(mdns.Msg).SetRcode(q, mdns.RcodeSuccess))
	}
	tests := []struct {
		name    string
		servers []func(net.Conn) error
		rcode   int
		took    time.Duration
		fails   bool
	}{
		{"first", []func(net.Conn) error{answer(mdns.RcodeSuccess), refuse}, mdns.RcodeSuccess, 0, false},
		{"no such name is an answer", []func(net.Conn) error{answer(mdns.RcodeNameError), answer(mdns.RcodeSuccess)}, mdns.RcodeNameError, 0, false},
		{"first is down", []func(net.Conn) error{refuse, answer(mdns.RcodeSuccess)}, mdns.RcodeSuccess, 0, false},
		{"first cannot", []func(net.Conn) error{answer(mdns.RcodeServerFailure), answer(mdns.RcodeSuccess)}, mdns.RcodeSuccess, 0, false},
		{"first will not", []func(net.Conn) error{answer(mdns.RcodeRefused), answer(mdns.RcodeSuccess)}, mdns.RcodeSuccess, 0, false},
		{"first is silent", []func(net.Conn) error{silent, answer(mdns.RcodeSuccess)}, mdns.RcodeSuccess, time.Second, false},
		{"first is slow, second silent", []func(net.Conn) error{slow, silent}, mdns.RcodeSuccess, 1500 * time.Millisecond, false},
		{"none can", []func(net.Conn) error{answer(mdns.RcodeServerFailure), refuse}, mdns.RcodeServerFailure, 0, false},
		{"all are down", []func(net.Conn) error{refuse, refuse}, 0, 0, true},
		{"all are silent", []func(net.Conn) error{silent, silent}, 0, answerLimit, true},
		{"there are none", nil, 0, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &upstreams{}
				for i := range tt.servers {
					u.servers = append(u.servers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 53))
				}
				var wait func()
				u.dial, wait = peers(func(_ string, addr netip.AddrPort, conn net.Conn) error {
					return tt.servers[addr.Addr().As4()[3]](conn)
				})
				began := time.Now()
				a, err := u.exchange(t.Context(), question("www.example.com.", mdns.TypeA))
				if took := time.Since(began); took != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
				if (err != nil) != tt.fails || err == nil && a.Rcode != tt.rcode {
					t.Errorf("answer %v, %v", a, err)
				}
				wait()
			})
		})
	}
}

func TestUpstreamsRemembersWhoAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &upstreams{servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.0:53"), netip.MustParseAddrPort("192.0.2.1:53")}}
		var dead atomic.Bool
		dead.Store(true)
		var wait func()
		u.dial, wait = peers(func(_ string, addr netip.AddrPort, conn net.Conn) error {
			if dead.Load() && addr == u.servers[0] {
				return nil
			}
			q, err := readQuestion(conn)
			if err != nil {
				return err
			}
			m := new(mdns.Msg).SetReply(q)
			m.Answer = []mdns.RR{txt(q.Question[0].Name, addr.String())}
			return send(conn, m)
		})
		steps := []struct {
			pause, took time.Duration
			first       bool // the first is back
			by          int
		}{
			{0, time.Second, false, 1},
			{0, 0, false, 1},
			{preferFor + time.Second, 0, true, 0},
		}
		for i, step := range steps {
			time.Sleep(step.pause)
			dead.Store(!step.first)
			began := time.Now()
			a, err := u.exchange(t.Context(), question("www.example.com.", mdns.TypeTXT))
			if err != nil {
				t.Fatal(err)
			}
			if got := a.Answer[0].(*mdns.TXT).Txt[0]; time.Since(began) != step.took || got != u.servers[step.by].String() {
				t.Errorf("step %d: by %s after %s", i, got, time.Since(began))
			}
		}
		wait()
	})
}

// The exported Upstreams dials real sockets.
func TestUpstreamsOverSockets(t *testing.T) {
	addr := netip.MustParseAddrPort(serve(t, newServer(t, told("cluster"), told("upstream"))))
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := netip.MustParseAddrPort(pc.LocalAddr().String())
	_ = pc.Close()
	a, err := Upstreams([]netip.AddrPort{closed, addr})(t.Context(), question("www.example.com.", mdns.TypeTXT))
	if err != nil || len(a.Answer) != 1 {
		t.Errorf("answer %v, %v", a, err)
	}
}
