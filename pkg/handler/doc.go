// Package handler decides what becomes of a captured connection on this machine.
// It connects the connection to a local address, the handler, and keeps count of
// what is open, so that leaving an intercept can let connections end in their
// own time. It knows connections, not Kubernetes: the agent decides what is
// captured, and the tunnel brings it here.
package handler
