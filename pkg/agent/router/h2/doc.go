// Package h2 divides the streams of one HTTP/2 connection among the app and the
// sessions whose rules they match. It relays frames (RFC 9113): what the app and a
// client say to each other arrives as it was said, with the client's stream numbers,
// in the same order, with the same codes. Only HPACK's encoding is made anew, for its
// tables are a connection's own.
//
// # Flow control
//
// The credit for what a client sends is the app's: its WINDOW_UPDATEs are passed on,
// so nothing is held for the app. What goes aside, to a handler, is given back to the
// connection's window at once, and to the stream's when it has gone there. Until then
// it is held: a debugger that stands still delays nobody else's stream. The credit of a
// stream for what an upstream sends is the client's. The connection's is this package's own, a window an
// upstream, since several share the one that the client gives.
//
// Copies, for mirrors, are streams of connections of their own. What is held for them is
// bounded, and a copy that cannot be held is dropped.
package h2
