// Package portforward dials a TCP port of a pod through the API server's
// pods/portforward subresource and hands back a net.Conn. For users who lack
// that right, a command's standard input and output, by pods/exec, can be one.
//
// Each connection is its own upgraded HTTP connection carrying one pair of
// SPDY streams (data and error), so that no connection can stall another:
// SPDY as Kubernetes uses it has no flow control, and an unread stream blocks
// everything that shares its connection. Plain SPDY is tried first because it
// is faster, SPDY inside a WebSocket when a proxy or a policy refuses that; a
// Dialer remembers which of the two worked.
//
// Nothing of a port-forward runs in the background: frames are read by Read and written by
// Write, deadlines are those of the socket, and Close closes the socket.
//
// The package owns authentication (through client-go), proxies, the upgrade
// and the stream framing. It does not own what is said over the connection,
// when to dial again, nor which pod to dial.
package portforward
