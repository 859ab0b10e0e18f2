// Package tunnel carries many flows (TCP connections, UDP associations,
// services) over one or more lanes. A lane is an ordered stream of frames that
// outlives the connections it runs over, such as port-forward connections:
// what a lost connection has not delivered is sent again over the next, and
// flows notice nothing but the time. The same package is both ends: Dial is
// the laptop's, which makes lanes and keeps them up, Server the agent's; after
// that the two are equal, either may Open.
//
// It owns frames, flows, credit, fairness, lanes and the decision that a
// connection is dead or a peer lost. It does not own how a connection is
// dialed, what a Target means, or what is done with a flow's bytes, and it
// imports no Kubernetes. PROTOCOL.md is the wire format, written so that
// another implementation could be made from it.
//
// # Goroutines and locks
//
// Each connection has two goroutines: the reader, which never waits for a
// flow, so that the connection is always drained; and the writer, the only one
// that writes to it. A Tunnel has the heartbeat, and on the laptop one for each
// lane, which keeps it up. Close ends and waits for all. There is no goroutine
// per flow.
//
// Lock order: lane.joining, lane.mu, Flow.mu, then Tunnel.mu or writer.mu.
// Tunnel.mu and writer.mu are leaves: nothing else is locked while one of
// them is held.
//
// # Memory
//
// What a peer can make this side hold is bounded: by the credit of each flow,
// by Config.MaxFlows and Config.Backlog, and, because credit is promised to
// more flows than could all use it at once, by the Budget: when more than
// that is held, the flow that holds most is reset.
package tunnel
