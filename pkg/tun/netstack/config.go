package netstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// Config says what a Stack serves and how it reaches what it does not.
type Config struct {
	// MTU of the device, 1280 to 65535. Packets larger than that are cut off.
	MTU int

	// Addrs are the addresses that the kernel holds on the device. Packets
	// for them never come out of it, and are dropped if they do.
	Addrs []netip.Prefix

	// Local are the addresses that the stack holds itself, for Listen and
	// ListenPacket. A port there without a listener refuses.
	Local []netip.Addr

	// DialTCP connects to dst. The SYN is held until it returns: an error
	// that is ECONNREFUSED answers RST, EHOSTUNREACH and ENETUNREACH answer
	// the ICMP error, and for all others nothing is answered, so that the
	// application's connect times out. Its context ends after DialLimit, or
	// with the stack. An open connection is the carrier's to move: it has no
	// goroutine here.
	DialTCP func(ctx context.Context, dst netip.AddrPort) (splice.Carrier, error)

	// DialUDP makes an association with dst whose reads and writes keep
	// message boundaries. If it fails, or a read from it fails other than
	// with io.EOF, the application gets the ICMP error "port unreachable".
	DialUDP func(ctx context.Context, dst netip.AddrPort) (PacketConn, error)

	// Log gets what may help to understand a failure, at level Debug for
	// single connections. Nil discards it.
	Log *slog.Logger

	// DialLimit bounds DialTCP and DialUDP. Default 130 s: by then the
	// kernel has given up on its SYN too.
	DialLimit time.Duration

	// MaxDialing bounds the connections whose dial is under way, MaxUDP the
	// associations; beyond, the first packet is dropped and comes again.
	// Default 4096 each.
	MaxDialing, MaxUDP int

	// UDPIdle ends an association without a datagram either way. Default 60 s.
	UDPIdle time.Duration
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.DialLimit == 0 {
		c.DialLimit = 130 * time.Second
	}
	if c.MaxDialing == 0 {
		c.MaxDialing = 4096
	}
	if c.MaxUDP == 0 {
		c.MaxUDP = 4096
	}
	if c.UDPIdle == 0 {
		c.UDPIdle = time.Minute
	}
	return c
}

func (c Config) verify() error {
	if c.MTU < 1280 || c.MTU > maxPacket {
		return fmt.Errorf("mtu %d: not within 1280 to %d", c.MTU, maxPacket)
	}
	for _, a := range c.Local {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			return fmt.Errorf("local address %s: not a unicast address", a)
		}
		for _, p := range c.Addrs {
			if p.Addr() == a {
				return fmt.Errorf("local address %s: held by the kernel already", a)
			}
		}
	}
	if c.DialTCP == nil || c.DialUDP == nil {
		return errors.New("no dial function")
	}
	if c.DialLimit < 0 || c.MaxDialing < 0 || c.MaxUDP < 0 || c.UDPIdle < 0 {
		return errors.New("negative limit")
	}
	return nil
}
