package tunnel

import (
	"errors"
	"fmt"
	"syscall"
)

// Sentinels for callers who branch. Errors returned by this package wrap them.
var (
	// ErrClosed: the tunnel is gone, and every flow with it.
	ErrClosed = errors.New("tunnel closed")
	// ErrReset: the peer reset this flow. It is also syscall.ECONNRESET.
	ErrReset error = &errnoError{"flow reset by peer", syscall.ECONNRESET}
	// ErrUnauthenticated: one end could not prove that it knows the key.
	ErrUnauthenticated = errors.New("tunnel key mismatch")
	// ErrUnknownTunnel: the agent does not know the tunnel that a lane was to
	// join: it is another one than before, or has given up waiting.
	ErrUnknownTunnel = errors.New("tunnel unknown to the agent")
	// ErrVersion: the two ends have no protocol version in common.
	ErrVersion = errors.New("tunnel protocol version mismatch")
)

// errnoError is a sentinel of our own that callers used to sockets recognise.
type errnoError struct {
	text  string
	errno syscall.Errno
}

func (e *errnoError) Error() string { return e.text }
func (e *errnoError) Unwrap() error { return e.errno }

// Reason says why an open was refused.
type Reason uint8

// The reasons, with their values on the wire.
const (
	Refused     Reason = 1 // nothing listens there
	Unreachable Reason = 2 // no route to it
	TimedOut    Reason = 3 // no answer
	Denied      Reason = 4 // the peer's policy forbids it
	Conflict    Reason = 5 // somebody else holds it
	Unknown     Reason = 6 // the peer does not know such a thing
	Failed      Reason = 7 // anything else; the message tells
)

func (r Reason) valid() bool { return r >= Refused && r <= Failed }

// String is the reason as people read it.
func (r Reason) String() string {
	switch r {
	case Refused:
		return "connection refused"
	case Unreachable:
		return "unreachable"
	case TimedOut:
		return "timed out"
	case Denied:
		return "denied"
	case Conflict:
		return "conflict"
	case Unknown:
		return "unknown"
	case Failed:
		return "failed"
	default:
		return fmt.Sprintf("reason %d", uint8(r))
	}
}

// RefusedError is the peer's answer to an Open it did not accept. errors.Is
// finds syscall.EHOSTUNREACH or ETIMEDOUT in it where the reason is one of
// these, and otherwise ECONNREFUSED: to try again at once is of no use.
type RefusedError struct {
	Target  Target
	Reason  Reason
	Message string // the peer's words; may be empty
}

func (e *RefusedError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("open %s: %s", e.Target, e.Reason)
	}
	return fmt.Sprintf("open %s: %s: %s", e.Target, e.Reason, e.Message)
}

// Unwrap gives the errno a kernel would have given.
func (e *RefusedError) Unwrap() error {
	switch e.Reason {
	case Unreachable:
		return syscall.EHOSTUNREACH
	case TimedOut:
		return syscall.ETIMEDOUT
	default:
		return syscall.ECONNREFUSED
	}
}

// protocolError is a peer that broke the protocol; it ends the lane.
type protocolError struct{ text string }

func (e *protocolError) Error() string { return "protocol error: " + e.text }

func isProtocolError(err error) bool {
	var p *protocolError
	return errors.As(err, &p)
}

func malformed(format string, args ...any) error {
	return &protocolError{fmt.Sprintf(format, args...)}
}

// goawayCode says in a GOAWAY why its sender leaves.
type goawayCode uint8

const (
	goawayClosed          goawayCode = 0
	goawayProtocol        goawayCode = 1
	goawayUnauthenticated goawayCode = 2
	goawayVersion         goawayCode = 3
	goawayOverloaded      goawayCode = 4
	goawayUnknownTunnel   goawayCode = 5
	goawayRetired         goawayCode = 6
)

// peerError is what a GOAWAY means to the one who receives it.
func (c goawayCode) peerError(message string) error {
	base := ErrClosed
	switch c {
	case goawayUnauthenticated:
		base = ErrUnauthenticated
	case goawayVersion:
		base = ErrVersion
	case goawayUnknownTunnel:
		base = ErrUnknownTunnel
	case goawayRetired:
		base = errRetired
	}
	return fmt.Errorf("%w: by peer: %q", base, message)
}

// codeOf is the code with which to tell the peer about err.
func codeOf(err error) goawayCode {
	switch {
	case isProtocolError(err):
		return goawayProtocol
	case errors.Is(err, ErrUnauthenticated):
		return goawayUnauthenticated
	case errors.Is(err, ErrVersion):
		return goawayVersion
	case errors.Is(err, ErrUnknownTunnel):
		return goawayUnknownTunnel
	case errors.Is(err, errRetired):
		return goawayRetired
	case errors.Is(err, errOverloaded):
		return goawayOverloaded
	default:
		return goawayClosed
	}
}

var (
	errOverloaded = errors.New("peer does not read its answers")
	errDead       = errors.New("no answer from peer")
	errReplaced   = errors.New("another connection takes over")
	errRetired    = errors.New("lane has retired")
)
