package api

import (
	"fmt"
	"strconv"
	"strings"
)

// Capture is a TCP port that the agent listens on, and the port of the app
// that it stands for.
type Capture struct {
	Listen uint16 `json:"listen"`
	App    uint16 `json:"app"`
}

// String returns the capture as LISTEN:APP.
func (c Capture) String() string { return fmt.Sprintf("%d:%d", c.Listen, c.App) }

// ParseCapture reads LISTEN:APP. Neither port may be 0.
func ParseCapture(s string) (Capture, error) {
	listen, app, ok := strings.Cut(s, ":")
	if !ok {
		return Capture{}, fmt.Errorf("capture %q is not LISTEN:APP", s)
	}
	var ports [2]uint16
	for i, p := range []string{listen, app} {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return Capture{}, fmt.Errorf("capture %q: %q is not a port", s, p)
		}
		ports[i] = uint16(n)
	}
	return Capture{Listen: ports[0], App: ports[1]}, nil
}

// CaptureInfo is the state of a capture.
type CaptureInfo struct {
	Capture
	// Holders are those with a rule, in the order in which their rules are
	// asked: what none takes goes to the app.
	Holders     []Holder `json:"holders,omitempty"`
	Active      int      `json:"active"`      // open connections
	IdleSeconds float64  `json:"idleSeconds"` // since the last new connection; -1: there was none
	// Whole is how many of the open connections go to the app as a whole, since
	// there was no rule of requests when they came.
	Whole int `json:"whole,omitempty"`
	// Opaque counts the connections that could not be looked into, by reason.
	Opaque map[string]int64 `json:"opaque,omitempty"`
}

// Captured describes a captured connection that is offered to a session.
type Captured struct {
	Port   uint16 `json:"port"`   // the app's port
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
