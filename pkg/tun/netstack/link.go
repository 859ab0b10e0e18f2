package netstack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// maxPacket is the largest IP packet.
	maxPacket = 65535

	// handOver is the size from which a packet read goes to the stack in the
	// buffer it was read into. Smaller ones are copied into a buffer of their
	// size: they may wait in a queue, and 64 KiB each would be a waste.
	handOver = 16 << 10
)

// vectorWriter is the device's optional ability to gather a packet itself.
type vectorWriter interface {
	WritePacket(parts [][]byte) (int, error)
}

// link is gVisor's view of the device. Packets from the device are delivered
// by run on its caller's goroutine; packets to it are written on the
// goroutine that made them, but for mere acknowledgments, see heldAcks. So
// neither direction passes through a queue.
type link struct {
	dev    io.ReadWriteCloser
	vector vectorWriter // nil if dev cannot
	mtu    uint32

	// inbound sees each packet before the stack does and reports whether the
	// stack is to see it too.
	inbound func(packet []byte) bool

	dispatcher atomic.Pointer[stack.NetworkDispatcher]
	acks       *heldAcks

	rxPackets, rxBytes, txPackets, txBytes, dropped atomic.Uint64
}

func newLink(dev io.ReadWriteCloser, mtu int, inbound func([]byte) bool) *link {
	l := &link{dev: dev, mtu: uint32(mtu), inbound: inbound, acks: newHeldAcks()}
	l.vector, _ = dev.(vectorWriter)
	return l
}

// run reads packets into the stack until the device fails or is closed.
func (l *link) run() error {
	view := buffer.NewViewSize(maxPacket)
	defer func() { view.Release() }()
	for {
		n, err := l.dev.Read(view.AsSlice())
		if err != nil {
			if errors.Is(err, os.ErrClosed) {
				return os.ErrClosed
			}
			return fmt.Errorf("read from the device: %w", err)
		}
		if n == 0 {
			continue
		}
		l.rxPackets.Add(1)
		l.rxBytes.Add(uint64(n))
		packet := view.AsSlice()[:n]
		var proto tcpip.NetworkProtocolNumber
		switch header.IPVersion(packet) {
		case header.IPv4Version:
			proto = header.IPv4ProtocolNumber
		case header.IPv6Version:
			proto = header.IPv6ProtocolNumber
		default:
			l.dropped.Add(1)
			continue
		}
		d := l.dispatcher.Load()
		if d == nil || !l.inbound(packet) {
			continue
		}
		var payload *buffer.View
		if n < handOver {
			payload = buffer.NewViewWithData(packet)
		} else {
			view.CapLength(n)
			payload, view = view, buffer.NewViewSize(maxPacket)
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(payload)})
		(*d).DeliverNetworkPacket(proto, pkt)
		pkt.DecRef()
	}
}

// parts is the pooled list of a packet's pieces.
type parts struct{ list [][]byte }

var partsPool = sync.Pool{New: func() any { return &parts{list: make([][]byte, 0, 8)} }}

// flatPool holds buffers for devices that take a packet only in one piece.
var flatPool = sync.Pool{New: func() any { b := make([]byte, 0, maxPacket); return &b }}

// WritePackets implements stack.LinkWriter. A packet that the device does not
// take is lost, as on any wire.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		if l.acks.take(pkt) {
			continue
		}
		p := partsPool.Get().(*parts)
		views, skip := pkt.AsViewList()
		for v := views.Front(); v != nil; v = v.Next() {
			b := v.AsSlice()
			if skip >= len(b) {
				skip -= len(b)
				continue
			}
			p.list = append(p.list, b[skip:])
			skip = 0
		}
		l.write(p.list)
		clear(p.list)
		p.list = p.list[:0]
		partsPool.Put(p)
	}
	return pkts.Len(), nil
}

// writeAcks writes the acknowledgments that are held, until done is closed.
func (l *link) writeAcks(done <-chan struct{}) {
	var acks []heldAck
	for {
		select {
		case <-l.acks.wake:
		case <-done:
			return
		}
		runtime.Gosched() // who was woken before, by what is acknowledged, goes first
		acks = l.acks.appendTo(acks[:0])
		for i := range acks {
			l.write([][]byte{acks[i].packet[:acks[i].size]})
		}
	}
}

func (l *link) write(list [][]byte) {
	var (
		n   int
		err error
	)
	switch {
	case l.vector != nil:
		n, err = l.vector.WritePacket(list)
	case len(list) == 1:
		n, err = l.dev.Write(list[0])
	default:
		flat := flatPool.Get().(*[]byte)
		*flat = (*flat)[:0]
		for _, b := range list {
			*flat = append(*flat, b...)
		}
		n, err = l.dev.Write(*flat)
		flatPool.Put(flat)
	}
	if err != nil {
		l.dropped.Add(1)
		return
	}
	l.txPackets.Add(1)
	l.txBytes.Add(uint64(n))
}

// The rest implements stack.NetworkLinkEndpoint for a wire without addresses
// and headers.

func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
}

func (l *link) IsAttached() bool { return l.dispatcher.Load() != nil }
func (l *link) MTU() uint32      { return l.mtu }

// Capabilities: the kernel that wrote the packet is on this machine, so its
// checksums are not checked. It does check ours: without a header that says
// otherwise it cannot know that they are good.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

func (*link) SetMTU(uint32)                           {}
func (*link) MaxHeaderLength() uint16                 { return 0 }
func (*link) LinkAddress() tcpip.LinkAddress          { return "" }
func (*link) SetLinkAddress(tcpip.LinkAddress)        {}
func (*link) Wait()                                   {}
func (*link) Close()                                  {}
func (*link) SetOnCloseAction(func())                 {}
func (*link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (*link) AddHeader(*stack.PacketBuffer)           {}
func (*link) ParseHeader(*stack.PacketBuffer) bool    { return true }
