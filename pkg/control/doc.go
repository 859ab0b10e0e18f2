// Package control is the control socket of a background session, both ends: a
// Client asks, and Serve answers by calls of the Session interface. It owns the
// folder of each session with its socket, lock and process id, the requests, the
// version check, and when a session that has nothing to do ends. It does not own
// what a session does (see pkg/session) or how its process is started (see
// pkg/cli), and it knows nothing of Kubernetes.
package control
