package netstack

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// wire is a device in memory: the test is the kernel. It takes packets only
// in one piece, so that this way is tested too.
type wire struct {
	in, out chan []byte
	once    sync.Once
	closed  chan struct{}
}

func newWire() *wire {
	return &wire{in: make(chan []byte, 64), out: make(chan []byte, 64), closed: make(chan struct{})}
}

func (w *wire) Read(b []byte) (int, error) {
	select {
	case p := <-w.in:
		return copy(b, p), nil
	case <-w.closed:
		return 0, os.ErrClosed
	}
}

func (w *wire) Write(b []byte) (int, error) {
	select {
	case w.out <- append([]byte(nil), b...):
		return len(b), nil
	case <-w.closed:
		return 0, os.ErrClosed
	}
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

// onWire runs a stack on a wire. It needs no rights.
func onWire(t *testing.T, cfg Config) (*Stack, *wire) {
	t.Helper()
	leaks(t)
	w := newWire()
	cfg.MTU, cfg.Addrs, cfg.Local = maxPacket, testAddrs, testLocal
	if cfg.DialTCP == nil {
		cfg.DialTCP = func(_ context.Context, dst netip.AddrPort) (splice.Carrier, error) {
			t.Errorf("dialed tcp %s", dst)
			return nil, io.EOF
		}
	}
	if cfg.DialUDP == nil {
		cfg.DialUDP = func(_ context.Context, dst netip.AddrPort) (PacketConn, error) {
			t.Errorf("dialed udp %s", dst)
			return nil, io.EOF
		}
	}
	s, err := New(w, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, w
}

func (w *wire) next(t *testing.T) []byte {
	t.Helper()
	select {
	case p := <-w.out:
		return p
	case <-time.After(limit):
		t.Fatal("no packet")
		return nil
	}
}

// silent checks that all that was sent so far is not answered: a ping to a
// local address, sent after it, is answered first.
func (w *wire) silent(t *testing.T, what string) {
	t.Helper()
	w.in <- ping(testAddrs[0].Addr(), testLocal[0])
	p := w.next(t)
	if v4 := header.IPv4(p); header.IPVersion(p) != 4 || v4.Protocol() != protocolICMPv4 || header.ICMPv4(v4.Payload()).Type() != header.ICMPv4EchoReply {
		t.Errorf("%s was answered: %x", what, p)
	}
}

func source(dst netip.Addr) netip.Addr {
	if dst.Is4() {
		return testAddrs[0].Addr()
	}
	return testAddrs[1].Addr()
}

// ip puts an IP header before payload.
func ip(proto byte, src, dst netip.Addr, payload []byte) []byte {
	s, d := tcpip.AddrFromSlice(src.AsSlice()), tcpip.AddrFromSlice(dst.AsSlice())
	if src.Is4() {
		b := make([]byte, v4Header+len(payload))
		header.IPv4(b).Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: proto, SrcAddr: s, DstAddr: d})
		header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
		copy(b[v4Header:], payload)
		return b
	}
	b := make([]byte, v6Header+len(payload))
	header.IPv6(b).Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(payload)), TransportProtocol: tcpip.TransportProtocolNumber(proto), HopLimit: 64, SrcAddr: s, DstAddr: d,
	})
	copy(b[v6Header:], payload)
	return b
}

func ping(src, dst netip.Addr) []byte {
	icmp := make([]byte, 16)
	if src.Is4() {
		icmp[0] = v4EchoRequest
		header.ICMPv4(icmp).SetChecksum(^sum(0, icmp))
		return ip(protocolICMPv4, src, dst, icmp)
	}
	icmp[0] = v6EchoRequest
	header.ICMPv6(icmp).SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
		Header: icmp, Src: tcpip.AddrFromSlice(src.AsSlice()), Dst: tcpip.AddrFromSlice(dst.AsSlice()),
	}))
	return ip(protocolICMPv6, src, dst, icmp)
}

const isn = 1000

func segment(dst netip.AddrPort, port uint16, seq, ack uint32, flags header.TCPFlags) []byte {
	b := make([]byte, header.TCPMinimumSize)
	header.TCP(b).Encode(&header.TCPFields{
		SrcPort: port, DstPort: dst.Port(), SeqNum: seq, AckNum: ack, DataOffset: header.TCPMinimumSize, Flags: flags, WindowSize: 65535,
	})
	src := source(dst.Addr())
	pseudo := header.PseudoHeaderChecksum(header.TCPProtocolNumber,
		tcpip.AddrFromSlice(src.AsSlice()), tcpip.AddrFromSlice(dst.Addr().AsSlice()), uint16(len(b)))
	header.TCP(b).SetChecksum(^header.TCP(b).CalculateChecksum(pseudo))
	return ip(6, src, dst.Addr(), b)
}

func datagram(dst netip.AddrPort, payload string) []byte {
	b := append(make([]byte, header.UDPMinimumSize), payload...)
	header.UDP(b).Encode(&header.UDPFields{SrcPort: 4000, DstPort: dst.Port(), Length: uint16(len(b))})
	return ip(17, source(dst.Addr()), dst.Addr(), b)
}

// unreachableAbout checks that p is the ICMP error about packet, with good
// checksums, in the name of its destination.
func unreachableAbout(t *testing.T, p, packet []byte, kind unreachableKind) {
	t.Helper()
	code4, code6 := kind.codes()
	var icmp, quote []byte
	if header.IPVersion(packet) == 4 {
		in, out := header.IPv4(packet), header.IPv4(p)
		if !out.IsValid(len(p)) || !out.IsChecksumValid() || out.SourceAddress() != in.DestinationAddress() || out.DestinationAddress() != in.SourceAddress() {
			t.Fatalf("bad header: %x", p)
		}
		icmp = out.Payload()
		if out.Protocol() != protocolICMPv4 || icmp[0] != v4Unreachable || icmp[1] != code4 || checksum.Checksum(icmp, 0) != 0xffff {
			t.Fatalf("bad error: %x", icmp)
		}
	} else {
		in, out := header.IPv6(packet), header.IPv6(p)
		if !out.IsValid(len(p)) || out.SourceAddress() != in.DestinationAddress() || out.DestinationAddress() != in.SourceAddress() {
			t.Fatalf("bad header: %x", p)
		}
		icmp = out.Payload()
		want := header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: icmp, Src: out.SourceAddress(), Dst: out.DestinationAddress()})
		if out.NextHeader() != protocolICMPv6 || icmp[0] != v6Unreachable || icmp[1] != code6 || header.ICMPv6(icmp).Checksum() != want {
			t.Fatalf("bad error: %x", icmp)
		}
	}
	quote = icmp[icmpHeader:]
	if string(quote) != string(packet[:len(quote)]) || len(quote) < 28 {
		t.Errorf("quotes %x, want the beginning of %x", quote, packet)
	}
}

func transport(t *testing.T, p []byte) header.TCP {
	t.Helper()
	if header.IPVersion(p) == 4 {
		if v4 := header.IPv4(p); v4.Protocol() == 6 {
			return header.TCP(v4.Payload())
		}
	} else if v6 := header.IPv6(p); v6.NextHeader() == 6 {
		return header.TCP(v6.Payload())
	}
	t.Fatalf("not tcp: %x", p)
	return nil
}

func TestRefusalPackets(t *testing.T) {
	for name, host := range families {
		dst := netip.AddrPortFrom(netip.MustParseAddr(host), 80)
		t.Run(name, func(t *testing.T) {
			answers := make(chan error)
			_, w := onWire(t, Config{DialTCP: func(context.Context, netip.AddrPort) (splice.Carrier, error) { return nil, <-answers }})
			syn := segment(dst, 4000, isn, 0, header.TCPFlagSyn)
			for want, err := range map[unreachableKind]error{unreachableHost: syscall.EHOSTUNREACH, unreachableNet: syscall.ENETUNREACH} {
				w.in <- syn
				w.in <- syn // again while the dial is under way
				w.silent(t, "a held SYN")
				answers <- err
				unreachableAbout(t, w.next(t), syn, want)
			}
			w.in <- syn
			answers <- syscall.ECONNREFUSED
			rst := transport(t, w.next(t))
			if rst.Flags() != header.TCPFlagRst|header.TCPFlagAck || rst.AckNumber() != isn+1 || rst.DestinationPort() != 4000 {
				t.Errorf("refusal: %s, ack %d", rst.Flags(), rst.AckNumber())
			}
		})
	}
}

func TestPing(t *testing.T) {
	_, w := onWire(t, Config{})
	for name, host := range families {
		dst := netip.MustParseAddr(host)
		p := ping(source(dst), dst)
		w.in <- p
		t.Run(name, func(t *testing.T) { unreachableAbout(t, w.next(t), p, unreachableProhibited) })
		w.in <- ping(source(dst), locals[name])
		if reply := w.next(t); name == "v6" && header.IPv6(reply).Payload()[0] != byte(header.ICMPv6EchoReply) ||
			name == "v4" && header.IPv4(reply).Payload()[0] != byte(header.ICMPv4EchoReply) {
			t.Errorf("%s: ping to a local address: %x", name, reply)
		}
	}
}

func TestNotRoutable(t *testing.T) {
	_, w := onWire(t, Config{})
	for _, a := range []string{
		"224.0.0.1", "255.255.255.255", "127.0.0.1", "169.254.169.254", "0.0.0.0", "198.18.0.1", "ff02::fb", "fe80::1", "::1", "fd00:7e1e::1",
	} {
		dst := netip.AddrPortFrom(netip.MustParseAddr(a), 80)
		w.in <- segment(dst, 4000, isn, 0, header.TCPFlagSyn)
		w.in <- datagram(dst, "hello")
		w.in <- ping(source(dst.Addr()), dst.Addr())
		w.silent(t, a)
	}
	for _, junk := range [][]byte{{}, {0x45}, {0x60, 1}, {0x10, 0, 0}, make([]byte, 40), segment(netip.MustParseAddrPort("10.96.0.1:80"), 1, 1, 0, header.TCPFlagSyn)[:25]} {
		w.in <- junk
	}
	w.silent(t, "junk")
}

func TestStraySegments(t *testing.T) {
	_, w := onWire(t, Config{})
	for name, host := range families {
		for _, a := range []netip.Addr{netip.MustParseAddr(host), locals[name]} {
			// As of a connection of an earlier session.
			w.in <- segment(netip.AddrPortFrom(a, 80), 4001, isn, 77, header.TCPFlagAck)
			if rst := transport(t, w.next(t)); rst.Flags()&header.TCPFlagRst == 0 || rst.SequenceNumber() != 77 {
				t.Errorf("%s: %s", a, rst.Flags())
			}
			w.in <- segment(netip.AddrPortFrom(a, 80), 4001, isn, 77, header.TCPFlagRst)
			w.silent(t, "a reset")
		}
	}
}

func TestMaxDialing(t *testing.T) {
	dialed := make(chan uint16, 8)
	s, w := onWire(t, Config{MaxDialing: 2, DialTCP: func(ctx context.Context, dst netip.AddrPort) (splice.Carrier, error) {
		dialed <- dst.Port()
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	for port := range uint16(3) {
		w.in <- segment(netip.AddrPortFrom(netip.MustParseAddr("10.96.0.1"), port+1), 4000, isn, 0, header.TCPFlagSyn)
	}
	w.silent(t, "a held SYN")
	if a, b := <-dialed, <-dialed; a+b != 3 || len(dialed) != 0 {
		t.Errorf("dialed ports %d and %d, and %d more", a, b, len(dialed))
	}
	if s.Stats().Dropped != 1 {
		t.Errorf("%d dropped", s.Stats().Dropped)
	}
}

func TestDialLimit(t *testing.T) {
	ended := make(chan error, 2)
	_, w := onWire(t, Config{
		DialLimit: time.Millisecond,
		DialTCP: func(ctx context.Context, _ netip.AddrPort) (splice.Carrier, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		},
		DialUDP: func(ctx context.Context, _ netip.AddrPort) (PacketConn, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		},
	})
	dst := netip.MustParseAddrPort("10.96.0.1:80")
	w.in <- segment(dst, 4000, isn, 0, header.TCPFlagSyn)
	p := datagram(dst, "hello")
	w.in <- p
	for range 2 {
		if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial ended with %v", err)
		}
	}
	unreachableAbout(t, w.next(t), p, unreachablePort)
	w.silent(t, "a timeout")
}

// A handshake that the application does not complete does not hold up Close,
// and its connection is reset.
func TestCloseInHandshake(t *testing.T) {
	near, far := loopbackPair(t)
	carry := overTunnel(t)
	s, w := onWire(t, Config{DialTCP: func(context.Context, netip.AddrPort) (splice.Carrier, error) { return carry(near) }})
	w.in <- segment(netip.MustParseAddrPort("10.96.0.1:80"), 4000, isn, 0, header.TCPFlagSyn)
	if p := transport(t, w.next(t)); p.Flags() != header.TCPFlagSyn|header.TCPFlagAck {
		t.Fatalf("got %s", p.Flags())
	}
	begun := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("close took %v", took)
	}
	_ = far.SetDeadline(time.Now().Add(limit))
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the dialed connection: %v, want a reset", err)
	}
}

// An application that gives up while the dial is under way answers the SYN-ACK
// with RST: the dialed connection is reset.
func TestGivenUpInHandshake(t *testing.T) {
	near, far := loopbackPair(t)
	carry := overTunnel(t)
	s, w := onWire(t, Config{DialTCP: func(context.Context, netip.AddrPort) (splice.Carrier, error) { return carry(near) }})
	dst := netip.MustParseAddrPort("10.96.0.1:80")
	w.in <- segment(dst, 4000, isn, 0, header.TCPFlagSyn)
	ack := transport(t, w.next(t))
	w.in <- segment(dst, 4000, isn+1, ack.SequenceNumber()+1, header.TCPFlagRst)
	_ = far.SetDeadline(time.Now().Add(limit))
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the dialed connection: %v, want a reset", err)
	}
	until(t, "counted as failed", func() bool { return s.Stats().TCPFailed == 1 })
}

func FuzzInbound(f *testing.F) {
	dst := netip.MustParseAddrPort("10.96.0.1:80")
	dst6 := netip.MustParseAddrPort("[fd00:96::1]:80")
	for _, p := range [][]byte{
		segment(dst, 1, 1, 0, header.TCPFlagSyn), segment(dst6, 1, 1, 0, header.TCPFlagSyn), datagram(dst, "x"), datagram(dst6, "x"),
		ping(testAddrs[0].Addr(), dst.Addr()), ping(testAddrs[1].Addr(), dst6.Addr()),
	} {
		f.Add(p)
	}
	w := newWire()
	s, err := New(w, Config{
		MTU: maxPacket, Addrs: testAddrs, Local: testLocal,
		DialTCP: func(context.Context, netip.AddrPort) (splice.Carrier, error) { return nil, syscall.EHOSTUNREACH },
		DialUDP: func(context.Context, netip.AddrPort) (PacketConn, error) { return nil, syscall.ECONNREFUSED },
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	go func() {
		for {
			select {
			case <-w.out:
			case <-w.closed:
				return
			}
		}
	}()
	f.Fuzz(func(t *testing.T, p []byte) {
		select {
		case w.in <- p:
		case <-s.Done():
			t.Fatal(s.Err())
		}
	})
}
