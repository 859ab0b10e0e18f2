package netstack

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// unreachable codes say what an ICMP error is about.
type unreachableKind int

const (
	unreachableNet unreachableKind = iota
	unreachableHost
	unreachablePort
	unreachableProhibited
)

// codes are those of "destination unreachable" in ICMP and ICMPv6.
func (k unreachableKind) codes() (v4, v6 byte) {
	switch k {
	case unreachableNet:
		return 0, 0
	case unreachableHost:
		return 1, 3
	case unreachablePort:
		return 3, 4
	default:
		return 13, 1
	}
}

const (
	icmpHeader      = 8
	v4Header        = 20
	v6Header        = 40
	maxQuote        = 128 // of the packet in error; the headers are what matters
	v4Unreachable   = 3
	v6Unreachable   = 1
	v4EchoRequest   = 8
	v6EchoRequest   = 128
	protocolICMPv4  = 1
	protocolICMPv6  = 58
	defaultHopLimit = 64
)

// routable reports whether dst is one that can be dialed.
func (s *Stack) routable(dst netip.Addr) bool {
	return dst.IsValid() && !dst.IsUnspecified() && !dst.IsLoopback() && !dst.IsMulticast() &&
		!dst.IsLinkLocalUnicast() && !s.own[dst] && dst != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// inbound implements link.inbound. A ping to an address that is not ours
// would be answered by the stack itself, for a machine that may not exist; it
// is answered with "prohibited" instead, which is the truth.
func (s *Stack) inbound(packet []byte) bool {
	var dst netip.Addr
	switch header.IPVersion(packet) {
	case header.IPv4Version:
		ip := header.IPv4(packet)
		if len(ip) < v4Header || !ip.IsValid(len(ip)) || ip.Protocol() != protocolICMPv4 || ip.FragmentOffset() != 0 {
			return true
		}
		if p := ip.Payload(); len(p) < icmpHeader || p[0] != v4EchoRequest {
			return true
		}
		dst = toAddr(ip.DestinationAddress())
	default:
		ip := header.IPv6(packet)
		if len(ip) < v6Header || !ip.IsValid(len(ip)) || ip.NextHeader() != protocolICMPv6 {
			return true
		}
		if p := ip.Payload(); len(p) < icmpHeader || p[0] != v6EchoRequest {
			return true
		}
		dst = toAddr(ip.DestinationAddress())
	}
	if s.local[dst] {
		return true
	}
	if s.routable(dst) {
		s.unreachable(packet[:min(len(packet), maxQuote)], unreachableProhibited)
	}
	return false
}

// quoteOf copies the headers of pkt, for an ICMP error about it.
func quoteOf(pkt *stack.PacketBuffer) []byte {
	n, t := pkt.NetworkHeader().Slice(), pkt.TransportHeader().Slice()
	q := make([]byte, 0, len(n)+len(t))
	return append(append(q, n...), t...)
}

// unreachable tells the sender of the packet that quote is the beginning of
// that it did not arrive, in the name of its destination.
func (s *Stack) unreachable(quote []byte, kind unreachableKind) {
	if packet := unreachablePacket(quote, kind); packet != nil {
		s.link.write([][]byte{packet})
	}
}

// unreachablePacket is nil if quote is not the beginning of an IP packet.
func unreachablePacket(quote []byte, kind unreachableKind) []byte {
	quote = quote[:min(len(quote), maxQuote)]
	v4, v6 := kind.codes()
	switch {
	case header.IPVersion(quote) == header.IPv4Version && len(quote) >= v4Header:
		in := header.IPv4(quote)
		b := make([]byte, v4Header+icmpHeader+len(quote))
		out := header.IPv4(b)
		out.Encode(&header.IPv4Fields{
			TotalLength: uint16(len(b)),
			TTL:         defaultHopLimit,
			Protocol:    protocolICMPv4,
			SrcAddr:     in.DestinationAddress(),
			DstAddr:     in.SourceAddress(),
		})
		out.SetChecksum(^out.CalculateChecksum())
		icmp := b[v4Header:]
		icmp[0], icmp[1] = v4Unreachable, v4
		copy(icmp[icmpHeader:], quote)
		binary.BigEndian.PutUint16(icmp[2:], ^sum(0, icmp))
		return b
	case header.IPVersion(quote) == header.IPv6Version && len(quote) >= v6Header:
		in := header.IPv6(quote)
		b := make([]byte, v6Header+icmpHeader+len(quote))
		header.IPv6(b).Encode(&header.IPv6Fields{
			PayloadLength:     uint16(icmpHeader + len(quote)),
			TransportProtocol: protocolICMPv6,
			HopLimit:          defaultHopLimit,
			SrcAddr:           in.DestinationAddress(),
			DstAddr:           in.SourceAddress(),
		})
		icmp := b[v6Header:]
		icmp[0], icmp[1] = v6Unreachable, v6
		copy(icmp[icmpHeader:], quote)
		// The pseudo-header: both addresses, the length, the protocol.
		pseudo := uint32(len(icmp)) + protocolICMPv6
		binary.BigEndian.PutUint16(icmp[2:], ^sum(uint32(sum(pseudo, b[8:v6Header])), icmp))
		return b
	default:
		return nil
	}
}

// sum is the internet checksum's folded sum of b, continued from initial.
func sum(initial uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		initial += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		initial += uint32(b[0]) << 8
	}
	for initial > 0xffff {
		initial = initial>>16 + initial&0xffff
	}
	return uint16(initial)
}
