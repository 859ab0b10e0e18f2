package api

import (
	"errors"
	"fmt"
	"io"
)

// ListenRequest asks an agent to capture more ports. A Listen of 0 stands for
// any free port, or for the port that captures the same App already.
type ListenRequest struct {
	Captures []Capture `json:"captures"`
}

// ListenReply has the captures that were asked for, in the same order, with
// the ports that the agent listens on.
type ListenReply struct {
	Captures []Capture `json:"captures"`
}

// ParseListenRequest reads a ListenRequest from JSON. It refuses fields that it
// does not know, a request without captures, and the app's port 0. Whether an
// agent can have the captures is for the agent to say.
func ParseListenRequest(data []byte) (ListenRequest, error) {
	var r ListenRequest
	err := decodeStrictly(data, &r)
	if err == nil {
		err = r.validate()
	}
	if err != nil {
		return ListenRequest{}, fmt.Errorf("listen request: %w", err)
	}
	return r, nil
}

func (r ListenRequest) validate() error {
	if len(r.Captures) == 0 {
		return errors.New("no captures")
	}
	for _, c := range r.Captures {
		if err := c.Port().validate("capture " + c.String()); err != nil {
			return err
		}
	}
	return nil
}

// ReadListenReply reads the answer of ServiceListen, of at most 64 KiB.
func ReadListenReply(r io.Reader) (ListenReply, error) {
	return readReply[ListenReply](r, maxReply, "the answer to a listen request")
}
