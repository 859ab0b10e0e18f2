// Package router decides where each request of a captured HTTP connection goes: to
// the app, or to the session whose rule it matches. It reads messages only as far
// as it must to know where they end. What no rule takes reaches the app byte for
// byte as it was sent, and the answer likewise.
//
// It understands a strict part of HTTP/1.x: what RFC 9112 allows and no two parsers
// read differently. Whatever else comes makes the connection opaque: the rest of
// it goes raw to the app, for good, as if the agent were not there.
//
// An app sees an idle connection while handlers answer its client. That it ends it is no
// matter of the client's. When the app refuses another, for its pod ends, the client is
// told by "Connection: close" in the next answer of a handler, the one thing that is added
// to any, or by a FIN when it is idle.
//
// Copies of requests, for a mirror, go beside what they are copies of; a Tap reads along
// where a connection goes to one place whole. Nobody waits for either.
//
// A connection of HTTP/2 without TLS, on which the app speaks it too, is package h2's.
package router
