// Package tun owns the laptop's side of the tunnel: the TUN device, the
// addresses and routes that lead packets into it, and the knowledge of what
// the host routes already. What is read from the device is the business of
// the netstack package below; running the parts that need root apart from the
// session is that of the helper package below.
//
// Host changes are declarative: a Network says all that a device is to have,
// Router.Set makes it so and may be repeated, and an empty Network removes
// everything.
package tun

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// MaxMTU is the MTU to use where the only peer is the local kernel: the
// largest IP packet, so that the fewest packets carry the most bytes.
const MaxMTU = 65535

// minMTU is the smallest MTU that carries IPv6.
const minMTU = 1280

// ErrUnsupported is returned for what this operating system has no
// implementation of.
var ErrUnsupported = fmt.Errorf("tun on this operating system: %w", errors.ErrUnsupported)

// Device is an open TUN. Each Read returns one IP packet, each Write sends
// one; a buffer smaller than the packet cuts it off. Close ends a Read that
// is under way. Reads and Writes may run at the same time.
type Device interface {
	io.ReadWriteCloser
	Name() string // of the network interface, as ip(8) and ifconfig(8) show it
	MTU() int
}

// VectorWriter is implemented by devices that can gather one packet from
// several buffers in a single system call.
type VectorWriter interface {
	// WritePacket sends parts as one packet. It does not keep them.
	WritePacket(parts [][]byte) (int, error)
}

// Network is everything a device is to have. The zero value is nothing.
type Network struct {
	Addrs  []netip.Prefix `json:"addrs,omitempty"`  // the host's own addresses, with the length of their on-link range
	Routes []netip.Prefix `json:"routes,omitempty"` // ranges that lead into the device
}

// Empty reports whether n asks for nothing.
func (n Network) Empty() bool { return len(n.Addrs) == 0 && len(n.Routes) == 0 }

// check refuses what no device can have. Whether a range is wise is for the
// caller to judge.
func (n Network) check() error {
	for _, p := range n.Addrs {
		if !p.IsValid() || p.Addr().Is4In6() || p.Addr().IsUnspecified() {
			return fmt.Errorf("address %s: not an address with a prefix length", p)
		}
	}
	for _, p := range n.Routes {
		if !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() {
			return fmt.Errorf("route %s: not a range", p)
		}
	}
	return nil
}

func checkMTU(mtu int) error {
	if mtu < minMTU || mtu > MaxMTU {
		return fmt.Errorf("mtu %d: not within %d to %d", mtu, minMTU, MaxMTU)
	}
	return nil
}
