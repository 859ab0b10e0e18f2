package netstack

import (
	"encoding/binary"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// heldAcks lets packets that do nothing but acknowledge wait a moment: until
// the goroutine that writes them has its turn, after whoever passes on what
// was received. What the flow sends until then takes their place. gVisor
// acknowledges all that it receives at once, which costs the kernel about as
// much as what is acknowledged.
type heldAcks struct {
	wake chan struct{}

	mu   sync.Mutex
	held map[ackFlow]heldAck
}

// ackFlow are a packet's addresses and ports, as they stand in its headers.
type ackFlow [36]byte

type heldAck struct {
	number uint32
	window uint16
	size   int
	packet [maxAck]byte // of which size are used
}

const (
	// mereHeader is TCP with timestamps: more options tell of losses.
	mereHeader = header.TCPMinimumSize + 2 + header.TCPOptionTSLength
	maxAck     = header.IPv6MinimumSize + mereHeader
)

func newHeldAcks() *heldAcks {
	return &heldAcks{wake: make(chan struct{}, 1), held: make(map[ackFlow]heldAck)}
}

// take reports whether the packet is held, and so not to be written.
func (a *heldAcks) take(pkt *stack.PacketBuffer) bool {
	ip, tcp := pkt.NetworkHeader().Slice(), header.TCP(pkt.TransportHeader().Slice())
	if pkt.TransportProtocolNumber != header.TCPProtocolNumber || len(tcp) < header.TCPMinimumSize {
		return false
	}
	flow, ok := ackFlowOf(ip, tcp)
	if !ok {
		return false
	}
	ack := heldAck{number: tcp.AckNumber(), window: tcp.WindowSize(), size: len(ip) + len(tcp)}
	mere := tcp.Flags() == header.TCPFlagAck && pkt.Data().Size() == 0 && len(tcp) <= mereHeader && ack.size <= maxAck
	a.mu.Lock()
	defer a.mu.Unlock()
	before, waits := a.held[flow]
	if mere && (!waits || ack.number != before.number || ack.window != before.window) {
		copy(ack.packet[copy(ack.packet[:], ip):], tcp)
		a.held[flow] = ack
		select {
		case a.wake <- struct{}{}:
		default:
		}
		return true
	}
	if !mere {
		delete(a.held, flow) // the packet acknowledges as much
	}
	return false // one that repeats another says that something is missing
}

// appendTo takes what is held out, and appends it to packets.
func (a *heldAcks) appendTo(packets []heldAck) []heldAck {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ack := range a.held {
		packets = append(packets, ack)
	}
	clear(a.held)
	return packets
}

func ackFlowOf(ip []byte, tcp header.TCP) (flow ackFlow, ok bool) {
	switch {
	case header.IPVersion(ip) == header.IPv4Version && len(ip) >= header.IPv4MinimumSize:
		copy(flow[:], ip[12:20])
	case header.IPVersion(ip) == header.IPv6Version && len(ip) >= header.IPv6MinimumSize:
		copy(flow[:], ip[8:40])
	default:
		return flow, false
	}
	binary.BigEndian.PutUint16(flow[32:], tcp.SourcePort())
	binary.BigEndian.PutUint16(flow[34:], tcp.DestinationPort())
	return flow, true
}
