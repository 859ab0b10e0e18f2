// Package netstack ends the TCP and UDP of packets that come out of a device
// and carries their contents over connections that its caller dials. It is
// the only package that imports gVisor.
//
// The peer of the stack is always the local kernel: packets are large, none
// is lost on the way, and a checksum that the kernel has just written need
// not be checked. What reaches an application is honest: its connect succeeds
// only when the dial behind it has, a refusal is a refusal, half-close and
// reset are passed on both ways.
//
//	kernel -> device -> read loop -> gVisor -+-> TCP: DialTCP, then splice.Join
//	                                         +-> UDP: DialUDP, one per 4-tuple
//	                                         +-> Local addresses: listeners
//
// It does not choose addresses or routes and knows nothing of tunnels.
package netstack
