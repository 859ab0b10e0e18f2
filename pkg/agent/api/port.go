package api

import (
	"fmt"
	"strconv"
	"strings"
)

// Protocol is what a port is of. The zero value is TCP.
type Protocol string

// The protocols. An agent without FeatureUDP knows TCP alone.
const (
	TCP Protocol = ""
	UDP Protocol = "udp"
)

// Port is a port of the app. The zero value is none.
type Port struct {
	Number   uint16   `json:"port,omitempty"`
	Protocol Protocol `json:"protocol,omitempty"`
}

// String returns the port as NUMBER, or NUMBER/udp.
func (p Port) String() string {
	s := strconv.Itoa(int(p.Number))
	if p.Protocol != TCP {
		s += "/" + string(p.Protocol)
	}
	return s
}

// validate returns an error unless the port is one that traffic can come to. what is what
// the port is of.
func (p Port) validate(what string) error {
	switch {
	case p.Number == 0:
		return fmt.Errorf("%s: 0 is not a port", what)
	case p.Protocol != TCP && p.Protocol != UDP:
		return fmt.Errorf("%s: unknown protocol %q", what, p.Protocol)
	}
	return nil
}

// parsePort reads what String returns.
func parsePort(s string) (p Port, ok bool) {
	number, protocol, found := strings.Cut(s, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	p = Port{Number: uint16(n), Protocol: Protocol(protocol)}
	return p, err == nil && (!found || p.Protocol == UDP) && p.validate("") == nil
}
