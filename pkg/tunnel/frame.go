package tunnel

import (
	"encoding/binary"
	"fmt"
)

// frameType is the first byte of a frame.
type frameType uint8

const (
	typeHello    frameType = 1
	typeOpen     frameType = 2
	typeOpened   frameType = 3
	typeRefused  frameType = 4
	typeData     frameType = 5
	typeFin      frameType = 6
	typeReset    frameType = 7
	typeWindow   frameType = 8
	typeDatagram frameType = 9
	typePing     frameType = 10
	typePong     frameType = 11
	typeGoaway   frameType = 12
	typeAck      frameType = 13
	typeRetire   frameType = 14

	frameTypes = 15
)

// lasts says of a frame that it is counted, confirmed, and sent again after a
// break: all that are about flows, and the last on a lane.
func (t frameType) lasts() bool { return t >= typeOpen && t <= typeDatagram || t == typeRetire }

// Flags, each belonging to one type of frame.
const (
	flagLimited = 1 << 0 // DATA: its sender waited before it, or has all it has credit for
	flagMore    = 1 << 0 // DATAGRAM: the next frame carries the rest of it
	flagBusy    = 1 << 0 // PING: its sender has more for the lane than goes on it

	// HELLO: its step.
	helloClient = 1
	helloServer = 2
	helloProof  = 3
	helloJoined = 4
)

// Sizes and limits of the wire format, in bytes.
const (
	headerSize   = 8
	dataHeader   = headerSize + 8 // header and offset
	maxChunk     = 32 << 10       // bytes of a flow in one frame
	maxDatagram  = 65507
	maxNetwork   = 16
	maxAddress   = 255
	maxMeta      = 4 << 10
	maxMessage   = 1 << 10 // of REFUSED and GOAWAY
	maxSession   = 255
	maxFlowID    = 1<<32 - 1
	windowLimit  = 16 << 20 // credit one flow may have
	helloLength1 = 4 + 2 + 2 + 8 + 16 + 1 + 4 + 32 + 1
	helloLength2 = 4 + 2 + 8 + 32 + 32
	helloLength3 = 32 + 8
	helloLength4 = 8
)

// rule is what every frame of a type obeys; checked before its body is read.
type rule struct {
	name     string
	min, max int // length of the body
	flags    uint8
	flow     bool // about one flow
}

func ruleOf(t frameType) (rule, bool) {
	rules := [frameTypes]rule{
		typeHello:    {"HELLO", helloLength4, helloLength1 + maxSession, 7, false},
		typeOpen:     {"OPEN", 4 + 1 + 1 + 1 + 2, 4 + 1 + maxNetwork + 1 + maxAddress + 2 + maxMeta, 0, true},
		typeOpened:   {"OPENED", 4, 4, 0, true},
		typeRefused:  {"REFUSED", 1, 1 + maxMessage, 0, true},
		typeData:     {"DATA", 8 + 1, 8 + maxChunk, flagLimited, true},
		typeFin:      {"FIN", 8, 8, 0, true},
		typeReset:    {"RESET", 0, 0, 0, true},
		typeWindow:   {"WINDOW", 16, 16, 0, true},
		typeDatagram: {"DATAGRAM", 0, maxChunk, flagMore, true},
		typePing:     {"PING", 8, 8, flagBusy, false},
		typePong:     {"PONG", 8, 8, 0, false},
		typeGoaway:   {"GOAWAY", 1, 1 + maxMessage, 0, false},
		typeAck:      {"ACK", 8, 8, 0, false},
		typeRetire:   {"RETIRE", 0, 0, 0, false},
	}
	if t == 0 || t >= frameTypes {
		return rule{}, false
	}
	return rules[t], true
}

// header is the first 8 bytes of every frame: type, flags, length of the
// body that follows, flow; big endian.
type header struct {
	typ    frameType
	flags  uint8
	length int
	flow   uint32
}

// parseHeader checks everything that can be said of a frame without its body.
// b has at least headerSize bytes.
func parseHeader(b []byte) (header, error) {
	_ = b[headerSize-1]
	h := header{
		typ:    frameType(b[0]),
		flags:  b[1],
		length: int(binary.BigEndian.Uint16(b[2:])),
		flow:   binary.BigEndian.Uint32(b[4:]),
	}
	// By far the most frequent, hence without the table.
	if h.typ == typeData && h.length > 8 && h.length <= 8+maxChunk && h.flags <= flagLimited && h.flow != 0 {
		return h, nil
	}
	r, ok := ruleOf(h.typ)
	switch {
	case !ok:
		return h, malformed("unknown frame type %d", h.typ)
	case h.length < r.min || h.length > r.max:
		return h, malformed("%s of %d bytes", r.name, h.length)
	case h.flags&^r.flags != 0:
		return h, malformed("%s with flags %#x", r.name, h.flags)
	case r.flow != (h.flow != 0):
		return h, malformed("%s for flow %d", r.name, h.flow)
	}
	return h, nil
}

func (h header) String() string {
	r, _ := ruleOf(h.typ)
	return fmt.Sprintf("%s flow %d, %d bytes", r.name, h.flow, h.length)
}

func appendHeader(b []byte, t frameType, flags uint8, length int, flow uint32) []byte {
	return append(b, byte(t), flags, byte(length>>8), byte(length),
		byte(flow>>24), byte(flow>>16), byte(flow>>8), byte(flow))
}
