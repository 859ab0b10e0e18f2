// Package netsim is a bad network between a laptop and the API server: a TCP
// relay that delays, paces and loses what passes, on demand. A kubeconfig
// whose server is the relay puts it into the way of a whole session.
//
//	laptop ---near---> Relay ---far---> API server
//	          up: near to far, down: far to near
//
// What it shows is what a TCP user sees of a bad network, not packets: bytes
// arrive late or not at all, connections are reset, go silent or are refused.
// Bytes that the relay has already written to a socket are beyond it: a fault
// does not call them back from the kernel's buffers.
//
// It does not know what the bytes mean, and owns no address: listening and
// dialing are the caller's, in whatever network namespace that is.
package netsim
