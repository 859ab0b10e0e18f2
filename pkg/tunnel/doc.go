// Package tunnel carries many flows (TCP connections, UDP associations,
// services) over one lane, an ordered reliable byte stream such as a
// port-forward connection. The same package is both ends: Dial is the
// laptop's, Accept the agent's; after that the two are equal, either may Open.
//
// It owns frames, flows, credit, fairness and the decision that a lane is
// dead. It does not own how a lane is dialed, what a Target means, or what is
// done with a flow's bytes, and it imports no Kubernetes. PROTOCOL.md is the
// wire format, written so that another implementation could be made from it.
//
// # Goroutines and locks
//
// A Tunnel has three goroutines: the reader, which never waits for a flow, so
// that the lane is always drained; the writer, the only one that writes to
// the lane; and the heartbeat. Close ends and waits for all three. There is
// no goroutine per flow.
//
// Lock order: Flow.mu, then Tunnel.mu or writer.mu. Tunnel.mu and writer.mu
// are leaves: nothing else is locked while one of them is held.
//
// # Memory
//
// What a peer can make this side hold is bounded: by the credit of each flow,
// by Config.MaxFlows and Config.Backlog, and, because credit is promised to
// more flows than could all use it at once, by the Budget: when more than
// that is held, the flow that holds most is reset.
package tunnel
