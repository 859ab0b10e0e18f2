package netstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	nic = tcpip.NICID(1)

	// The buffers hold what is under way between the kernel and a flow. The
	// receive buffer starts at a few packets and grows with use.
	bufferMin, bufferDefault, bufferMax = 64 << 10, 1 << 20, 8 << 20

	// timeWait may be short: no packet is lost or overtaken on the way to
	// the local kernel, which may use the same port again soon.
	timeWait = 10 * time.Millisecond
)

// errClosing is why connections end when the stack is closed.
var errClosing = errors.New("network stack closed")

// Stack is a running network stack on a device.
//
// Its goroutines are the read loop, one for acknowledgments, one for each
// connection being dialed, two at most for one carried, while there is
// something to carry, three for each association, and gVisor's own. All end
// with Close.
type Stack struct {
	cfg   Config
	gv    *stack.Stack
	link  *link
	local map[netip.Addr]bool
	own   map[netip.Addr]bool // addresses of the kernel

	ctx    context.Context // ends when the stack closes or the device dies
	cancel context.CancelCauseFunc
	flows  sync.WaitGroup // connections and associations
	reader sync.WaitGroup

	tcp tcpDialing
	udp udpTable

	done      chan struct{}
	err       error // set before done is closed
	closeOnce sync.Once

	mu     sync.Mutex // guards closed, and that no flow begins after it
	closed bool

	tcpOpened, tcpRefused, tcpFailed, udpOpened, udpFailed atomic.Uint64
	tcpActive, udpActive                                   atomic.Int64
}

// Stats counts since the stack began. Active are those open now.
type Stats struct {
	RxPackets, RxBytes, TxPackets, TxBytes uint64 // from and to the device
	Dropped                                uint64 // packets of no use, or not taken by the device
	TCPOpened, TCPRefused, TCPFailed       uint64
	UDPOpened, UDPFailed                   uint64
	TCPActive, UDPActive                   int64
}

// New starts a stack on dev and takes dev over, unless it returns an error.
func New(dev io.ReadWriteCloser, cfg Config) (*Stack, error) {
	cfg = cfg.withDefaults()
	if err := cfg.verify(); err != nil {
		return nil, fmt.Errorf("network stack: %w", err)
	}
	s := &Stack{
		cfg:   cfg,
		local: make(map[netip.Addr]bool),
		own:   make(map[netip.Addr]bool),
		done:  make(chan struct{}),
	}
	for _, a := range cfg.Local {
		s.local[a] = true
	}
	for _, p := range cfg.Addrs {
		s.own[p.Addr()] = true
	}
	s.link = newLink(dev, cfg.MTU, s.inbound)
	gv, err := newGVisor(s.link, cfg.Local)
	if err != nil {
		return nil, fmt.Errorf("network stack: %w", err)
	}
	s.gv = gv
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.tcp.init(s)
	s.udp.init(s)
	s.reader.Go(func() { s.link.writeAcks(s.ctx.Done()) })
	s.reader.Go(func() {
		err := s.link.run()
		if errors.Is(err, os.ErrClosed) {
			err = nil
		}
		s.err = err
		s.cancel(errClosing)
		close(s.done)
	})
	return s, nil
}

// newGVisor makes a stack that takes every packet of the link for its own.
func newGVisor(l *link, local []netip.Addr) (*stack.Stack, error) {
	gv := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	failed := func(what string, err tcpip.Error) (*stack.Stack, error) {
		gv.Destroy()
		return nil, fmt.Errorf("%s: %s", what, err)
	}
	sack := tcpip.TCPSACKEnabled(true)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: bufferMin, Default: bufferDefault, Max: bufferMax}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: bufferMin, Default: bufferDefault, Max: bufferMax}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &wait, &receive, &send} {
		if err := gv.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return failed(fmt.Sprintf("set %T", o), err)
		}
	}
	if err := gv.CreateNIC(nic, l); err != nil {
		return failed("create interface", err)
	}
	if err := gv.SetPromiscuousMode(nic, true); err != nil {
		return failed("accept packets for every address", err)
	}
	if err := gv.SetSpoofing(nic, true); err != nil {
		return failed("send packets from every address", err)
	}
	for _, a := range local {
		addr := tcpip.ProtocolAddress{
			Protocol:          protocolOf(a),
			AddressWithPrefix: tcpip.AddrFromSlice(a.AsSlice()).WithPrefix(),
		}
		if err := gv.AddProtocolAddress(nic, addr, stack.AddressProperties{}); err != nil {
			return failed("add address "+a.String(), err)
		}
	}
	gv.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	return gv, nil
}

// begin counts a flow in, unless the stack is closing. What it counts in must
// call s.flows.Done.
func (s *Stack) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ctx.Err() != nil {
		return false
	}
	s.flows.Add(1)
	return true
}

// Done is closed when the stack has stopped reading: it was closed, or the
// device died.
func (s *Stack) Done() <-chan struct{} { return s.done }

// Err says why the device died; nil before Done is closed and after a Close.
func (s *Stack) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Close resets all connections, so that applications notice at once, closes
// the device and waits for everything to end.
func (s *Stack) Close() error {
	var err error
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.cancel(errClosing)
		s.waitFlows()
		s.gv.Close()
		err = s.link.dev.Close()
		s.reader.Wait()
		s.gv.Wait()
	})
	<-s.done
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// waitFlows ends what does not look at the context: a handshake that the
// application does not complete, and which may also begin a moment late.
func (s *Stack) waitFlows() {
	ended := make(chan struct{})
	go func() {
		s.flows.Wait()
		close(ended)
	}()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		s.tcp.abort()
		select {
		case <-ended:
			return
		case <-again.C:
		}
	}
}

// Stats returns the counters.
func (s *Stack) Stats() Stats {
	return Stats{
		RxPackets:  s.link.rxPackets.Load(),
		RxBytes:    s.link.rxBytes.Load(),
		TxPackets:  s.link.txPackets.Load(),
		TxBytes:    s.link.txBytes.Load(),
		Dropped:    s.link.dropped.Load(),
		TCPOpened:  s.tcpOpened.Load(),
		TCPRefused: s.tcpRefused.Load(),
		TCPFailed:  s.tcpFailed.Load(),
		UDPOpened:  s.udpOpened.Load(),
		UDPFailed:  s.udpFailed.Load(),
		TCPActive:  s.tcpActive.Load(),
		UDPActive:  s.udpActive.Load(),
	}
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}

func toAddr(a tcpip.Address) netip.Addr {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return addr
}
