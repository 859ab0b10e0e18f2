// Package router decides where each request of a captured HTTP connection goes: to
// the app, or to the session whose rule it matches. It reads messages only as far
// as it must to know where they end. What no rule takes reaches the app byte for
// byte as it was sent, and the answer likewise.
//
// It understands a strict part of HTTP/1.x: what RFC 9112 allows and no two parsers
// read differently. Whatever else comes makes the connection opaque: the rest of
// it goes raw to the app, for good, as if the agent were not there.
package router
