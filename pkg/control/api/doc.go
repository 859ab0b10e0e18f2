// Package api holds the words that a command and the background session say to
// each other on the control socket: what is asked for, what is reported while it
// is done, and what a session says about itself. `-o json` and `-o yaml` print
// the same types, so their JSON is a promise to users.
//
// It is data alone. It does not own how the words are carried (see pkg/control)
// or what they bring about (see pkg/session), and it imports nothing of this
// module.
package api

// Version is the version of the control protocol. A command and a session of
// different versions exchange nothing but a status and the request to quit.
const Version int = 1
