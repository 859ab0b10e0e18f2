package netstack

import (
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// builtSegment is one of TCP over IPv4, from a port, as the stack writes it.
func builtSegment(t *testing.T, port uint16, ack uint32, flags header.TCPFlags, options, payload int) *stack.PacketBuffer {
	t.Helper()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.IPv4MinimumSize + header.TCPMinimumSize + options,
		Payload:            buffer.MakeWithData(make([]byte, payload)),
	})
	t.Cleanup(pkt.DecRef)
	pkt.TransportProtocolNumber = header.TCPProtocolNumber
	header.TCP(pkt.TransportHeader().Push(header.TCPMinimumSize + options)).Encode(&header.TCPFields{
		SrcPort: port, DstPort: 40000, AckNum: ack, Flags: flags, DataOffset: uint8(header.TCPMinimumSize + options),
	})
	header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize)).Encode(&header.IPv4Fields{
		TotalLength: uint16(header.IPv4MinimumSize + header.TCPMinimumSize + options + payload),
		SrcAddr:     tcpip.AddrFrom4([4]byte{10, 96, 0, 1}), DstAddr: tcpip.AddrFrom4([4]byte{192, 0, 2, 1}),
	})
	return pkt
}

// TestHeldAcks: only the last of a flow's mere acknowledgments is written, and
// none when something that says as much has been. Whatever says more is not
// held: a repetition, SACK, FIN.
func TestHeldAcks(t *testing.T) {
	const ack = header.TCPFlagAck
	a := newHeldAcks()
	hold := func(want bool, port uint16, number uint32, flags header.TCPFlags, options, payload int) {
		t.Helper()
		if held := a.take(builtSegment(t, port, number, flags, options, payload)); held != want {
			t.Errorf("port %d ack %d flags %v, %d bytes of options, %d of payload: held %v", port, number, flags, options, payload, held)
		}
	}
	written := func(want ...uint32) {
		t.Helper()
		got := a.appendTo(nil)
		if len(got) != len(want) {
			t.Fatalf("%d written, not %d", len(got), len(want))
		}
		for i, w := range want {
			packet := got[i].packet[:got[i].size]
			if n := header.TCP(packet[header.IPv4MinimumSize:]).AckNumber(); n != w || got[i].number != w {
				t.Errorf("acknowledgment of %d written, not %d", n, w)
			}
		}
	}
	hold(true, 1, 100, ack, 12, 0)
	hold(true, 1, 1<<31, ack, 12, 0)
	hold(true, 1, 1<<31+7, ack, 12, 0)
	written(1<<31 + 7)
	written()

	hold(true, 1, 100, ack, 12, 0)
	hold(false, 1, 100, ack, 12, 0) // again
	hold(true, 2, 100, ack, 12, 0)
	hold(false, 1, 200, ack|header.TCPFlagPsh, 12, 5)
	written(100)

	// A window that was closed must not be the last word.
	hold(true, 3, 100, ack, 12, 0)
	opened := builtSegment(t, 3, 100, ack, 12, 0)
	header.TCP(opened.TransportHeader().Slice()).SetWindowSize(1000)
	if !a.take(opened) {
		t.Error("a window is written before one that came earlier")
	}
	if got := a.appendTo(nil); len(got) != 1 || got[0].window != 1000 {
		t.Errorf("written instead of the open window: %v", got)
	}

	hold(true, 1, 300, ack, 12, 0)
	hold(false, 1, 300, ack|header.TCPFlagFin, 12, 0)
	written()

	hold(false, 1, 400, ack, 24, 0) // SACK
	hold(false, 1, 400, header.TCPFlagRst, 0, 0)
	written()
}
