package helper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
)

// protocol is what both ends say in hello. They are the same program, so
// there is nothing to negotiate.
const protocol = 1

// maxLine bounds a message: maxRanges in each list fit.
const maxLine = 512 << 10

const (
	opHello      = "hello"
	opOpenTUN    = "open-tun"
	opSetNetwork = "set-network"
	opSetDNS     = "set-dns"
	opClose      = "close"
)

// DNS is what the host's resolver is to be told about a device. The zero
// value removes everything.
type DNS struct {
	Servers []netip.Addr `json:"servers,omitempty"`
	Search  []string     `json:"search,omitempty"`
	Domains []string     `json:"domains,omitempty"`
	Ndots   int          `json:"ndots,omitempty"`
}

// Empty reports whether d asks for nothing.
func (d DNS) Empty() bool {
	return len(d.Servers) == 0 && len(d.Search) == 0 && len(d.Domains) == 0 && d.Ndots == 0
}

type request struct {
	ID      uint64       `json:"id"`
	Op      string       `json:"op"`
	Version int          `json:"version,omitempty"`
	MTU     int          `json:"mtu,omitempty"`
	Network *tun.Network `json:"network,omitempty"`
	DNS     *DNS         `json:"dns,omitempty"`
}

type reply struct {
	ID      uint64 `json:"id"`
	Name    string `json:"name,omitempty"`
	Error   string `json:"error,omitempty"`
	Refused bool   `json:"refused,omitempty"` // the error is a refusal by the rules
}

// Error is a helper's answer to a request that it did not carry out.
type Error struct {
	Op      string
	Message string
	Refused bool // by the rules of check.go; else it was tried and failed
}

func (e *Error) Error() string {
	if e.Refused {
		return fmt.Sprintf("helper refused %s: %s", e.Op, e.Message)
	}
	return fmt.Sprintf("helper: %s: %s", e.Op, e.Message)
}

// decode reads exactly one JSON value with known fields only.
func decode(line []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value on a line")
	}
	return nil
}

// shape refuses a request that carries what its word does not take, or lacks
// what it does.
func (r request) shape() error {
	var want request
	switch r.Op {
	case opHello:
		want.Version = r.Version
	case opOpenTUN:
		want.MTU = r.MTU
	case opSetNetwork:
		if r.Network == nil {
			return errors.New("no network")
		}
		want.Network = r.Network
	case opSetDNS:
		if r.DNS == nil {
			return errors.New("no dns")
		}
		want.DNS = r.DNS
	case opClose:
	default:
		return errors.New("no such request")
	}
	want.ID, want.Op = r.ID, r.Op
	if r != want {
		return errors.New("fields that do not belong to it")
	}
	return nil
}
