package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

// resendAfter is when a question over UDP is repeated: datagrams get lost.
const resendAfter = time.Second

// dialer opens a connection whose Reads and Writes over "udp" are datagrams.
type dialer func(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error)

var buffers = sync.Pool{New: func() any { b := make([]byte, mdns.MaxMsgSize); return &b }}

// OverTunnel asks server through dial: over UDP, each question on a
// connection of its own, and over TCP when the answer was truncated. Over
// "udp" dial must keep the boundaries of messages.
func OverTunnel(dial func(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error), server netip.AddrPort) Exchange {
	return func(ctx context.Context, q *mdns.Msg) (*mdns.Msg, error) {
		answer, err := exchange(ctx, dial, server, q)
		if err != nil {
			return nil, fmt.Errorf("ask the cluster's DNS at %s: %w", server, err)
		}
		return answer, nil
	}
}

// exchange asks one server. It gives the question a new random id, because
// the laptop's programs may have chosen a guessable one.
func exchange(ctx context.Context, dial dialer, server netip.AddrPort, q *mdns.Msg) (*mdns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	q = q.Copy()
	q.Id = mdns.Id()
	answer, err := over(ctx, dial, "udp", server, q)
	if err != nil || !answer.Truncated {
		return answer, err
	}
	if full, err := over(ctx, dial, "tcp", server, q); err == nil {
		return full, nil
	}
	return answer, nil // the client learns by the flag that there is more
}

// over asks on a connection of its own, which the end of ctx closes.
func over(ctx context.Context, dial dialer, network string, server netip.AddrPort, q *mdns.Msg) (*mdns.Msg, error) {
	conn, err := dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	ask := askUDP
	if network == "tcp" {
		ask = askTCP
	}
	answer, err := ask(conn, q)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return answer, err
}

func askUDP(conn net.Conn, q *mdns.Msg) (*mdns.Msg, error) {
	packed, err := q.Pack()
	if err != nil {
		return nil, err
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		if _, err := conn.Write(packed); err != nil {
			return nil, err
		}
		answer, err := awaitUDP(conn, q, *buf)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return answer, err
		}
	}
}

// awaitUDP reads until the answer comes or it is time to ask again. What is
// no answer to q, late or forged, is passed over.
func awaitUDP(conn net.Conn, q *mdns.Msg, buf []byte) (*mdns.Msg, error) {
	if err := conn.SetReadDeadline(time.Now().Add(resendAfter)); err != nil {
		return nil, err
	}
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		answer := new(mdns.Msg)
		if err := answer.Unpack(buf[:n]); err == nil && answers(answer, q) {
			return answer, nil
		}
	}
}

func askTCP(conn net.Conn, q *mdns.Msg) (*mdns.Msg, error) {
	c := &mdns.Conn{Conn: conn}
	if err := c.WriteMsg(q); err != nil {
		return nil, err
	}
	answer, err := c.ReadMsg()
	if err != nil {
		return nil, err
	}
	if !answers(answer, q) {
		return nil, errors.New("the answer is to another question")
	}
	return answer, nil
}

// answers reports whether a is an answer to q. A server that failed early may
// leave the question out.
func answers(a, q *mdns.Msg) bool {
	if a.Id != q.Id || !a.Response || len(a.Question) > 1 {
		return false
	}
	if len(a.Question) == 0 {
		return a.Rcode != mdns.RcodeSuccess
	}
	got, want := a.Question[0], q.Question[0]
	return got.Qtype == want.Qtype && got.Qclass == want.Qclass && strings.EqualFold(got.Name, want.Name)
}
