// Package api holds the words that a session and an agent share: the names of
// the agent's container, variables and services, and the data that both write
// and read. It holds data and its coding alone, and imports nothing of this
// module.
//
// A session opens a flow to a service of the agent (a tunnel.Target whose
// Network is NetworkService) and puts the request into the target's Meta, as
// JSON. An agent opens a flow to the session for each captured connection, and
// each captured association of UDP (Network is NetworkIntercept or
// NetworkDatagrams, Address is the ID of the registration, Meta is a Captured).
//
// Session and agent may be of different versions: a second developer meets the
// agent that the first one brought.
package api
