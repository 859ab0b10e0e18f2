package api

import (
	"fmt"
	"io"
	"net/netip"
)

// ProbeRequest asks an agent for a probe: a connection by which a session
// learns whether an address, such as a Service's, leads to another agent's
// capture. The maximum segment size (MSS) in a SYN passes NAT unchanged, so it
// marks a probe without payload; what reaches an app instead is a connection
// that opens and closes, as a TCP health check makes.
//
// The session chooses a mark, asks one agent to connect to the Service with it,
// and sees at the others whether a connection with this mark is offered
// (Captured.MSS). No mark tells nothing: what ends connections in between, a
// node that answers SYN floods with cookies, or a path that clamps the MSS
// below the mark loses it.
type ProbeRequest struct {
	Address string `json:"address"` // IP:port
	MSS     uint16 `json:"mss"`     // the mark, in bytes: ProbeMSSMin to ProbeMSSMax, in steps of ProbeMSSStep
}

// Marks of probes, in bytes. Ordinary clients announce more, from 1220 for the
// smallest MTU of IPv6 to 65495 on loopback, or the 536 of a client that
// announces nothing.
const (
	ProbeMSSMin  = 600
	ProbeMSSMax  = 1200
	ProbeMSSStep = 50
)

// tcpOptions is the most that TCP options take of a segment, in bytes.
const tcpOptions = 40

// ProbeMarks returns all marks, from the least to the greatest.
func ProbeMarks() []uint16 {
	var marks []uint16
	for m := uint16(ProbeMSSMin); m <= ProbeMSSMax; m += ProbeMSSStep {
		marks = append(marks, m)
	}
	return marks
}

// Announced reports whether a connection whose Captured.MSS is mss is of this
// probe. The kernel takes the options of each segment off what the client
// announced, 12 bytes for timestamps and never more than 40: less than lies
// between two marks.
func (r ProbeRequest) Announced(mss uint16) bool {
	return mss <= r.MSS && r.MSS-mss <= tcpOptions
}

// ParseProbeRequest reads a ProbeRequest from JSON. It refuses fields that it
// does not know, an address that is not IP:port, and an MSS that is not a mark.
// Whether an agent may dial the address is for the agent to say.
func ParseProbeRequest(data []byte) (ProbeRequest, error) {
	var r ProbeRequest
	err := decodeStrictly(data, &r)
	if err == nil {
		err = r.validate()
	}
	if err != nil {
		return ProbeRequest{}, fmt.Errorf("probe request: %w", err)
	}
	return r, nil
}

func (r ProbeRequest) validate() error {
	if a, err := netip.ParseAddrPort(r.Address); err != nil || a.Port() == 0 {
		return fmt.Errorf("address %q is not IP:port", r.Address)
	}
	if r.MSS < ProbeMSSMin || r.MSS > ProbeMSSMax || (r.MSS-ProbeMSSMin)%ProbeMSSStep != 0 {
		return fmt.Errorf("MSS %d is not one of %d to %d in steps of %d", r.MSS, ProbeMSSMin, ProbeMSSMax, ProbeMSSStep)
	}
	return nil
}

// ProbeReply tells what became of a probe.
type ProbeReply struct {
	Connected bool   `json:"connected"`
	Error     string `json:"error,omitempty"` // why it is not connected
}

// ReadProbeReply reads the answer of ServiceProbe, of at most 64 KiB.
func ReadProbeReply(r io.Reader) (ProbeReply, error) {
	return readReply[ProbeReply](r, maxReply, "the answer to a probe request")
}
