package api

import (
	"fmt"
	"strconv"
	"strings"
)

// Capture is a port that the agent listens on, and the port of the app that it
// stands for. Both are of one protocol.
type Capture struct {
	Listen   uint16   `json:"listen"`
	App      uint16   `json:"app"`
	Protocol Protocol `json:"protocol,omitempty"`
}

// Port is the app's port.
func (c Capture) Port() Port { return Port{Number: c.App, Protocol: c.Protocol} }

// String returns the capture as LISTEN:APP, or LISTEN:APP/udp.
func (c Capture) String() string { return fmt.Sprintf("%d:%s", c.Listen, c.Port()) }

// ParseCapture reads LISTEN:APP or LISTEN:APP/udp. Neither port may be 0.
func ParseCapture(s string) (Capture, error) {
	listen, app, ok := strings.Cut(s, ":")
	if !ok {
		return Capture{}, fmt.Errorf("capture %q is not LISTEN:APP", s)
	}
	n, err := strconv.ParseUint(listen, 10, 16)
	if err != nil || n == 0 {
		return Capture{}, fmt.Errorf("capture %q: %q is not a port", s, listen)
	}
	port, ok := parsePort(app)
	if !ok {
		return Capture{}, fmt.Errorf("capture %q: %q is not a port", s, app)
	}
	return Capture{Listen: uint16(n), App: port.Number, Protocol: port.Protocol}, nil
}

// CaptureInfo is the state of a capture.
type CaptureInfo struct {
	Capture
	// Holders are those with a rule, in the order in which their rules are
	// asked: what none takes goes to the app.
	Holders []Holder `json:"holders,omitempty"`
	Active  int      `json:"active"` // open connections, or associations of UDP
	// IdleSeconds is since when nothing came: the last new connection, or of UDP the last
	// datagram; -1: there was none.
	IdleSeconds float64 `json:"idleSeconds"`
	// Whole is how many of the open connections go to the app as a whole, since
	// there was no rule of requests when they came.
	Whole int `json:"whole,omitempty"`
	// Opaque counts the connections that could not be looked into, by reason.
	Opaque map[string]int64 `json:"opaque,omitempty"`
}

// Captured describes a captured connection, or association of UDP, that is offered to a
// session.
type Captured struct {
	Port          // the app's
	Remote string `json:"remote"` // the client's IP:port
	Local  string `json:"local"`  // the IP:port that the client reached
	// MSS is the maximum segment size that the client announced, less the TCP
	// options of each segment, in bytes: what ProbeRequest.Announced looks at.
	// 0: the agent does not know it.
	MSS uint16 `json:"mss,omitempty"`
	// Probe says that it is offered because it looks like a probe alone: a
	// session that expects none is to refuse it.
	Probe bool `json:"probe,omitempty"`
}
