package api

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// WatchRequest asks for the exchanges of a port of the app from now on, 0: of all
// captured ports.
type WatchRequest struct {
	Port uint16 `json:"port,omitempty"`
}

// ParseWatchRequest reads a WatchRequest from JSON.
func ParseWatchRequest(data []byte) (WatchRequest, error) {
	var r WatchRequest
	if err := decodeStrictly(data, &r); err != nil {
		return WatchRequest{}, fmt.Errorf("watch: %w", err)
	}
	return r, nil
}

// Exchange is a request and its answer, as an agent saw them pass.
type Exchange struct {
	Begin    time.Time `json:"begin"`
	Millis   float64   `json:"millis"` // to the end of the answer
	Pod      string    `json:"pod"`
	Port     uint16    `json:"port"`     // the app's
	Client   string    `json:"client"`   // its address, as the pod sees it
	Protocol string    `json:"protocol"` // HTTP/1.0, HTTP/1.1 or HTTP/2
	Method   string    `json:"method"`
	Host     string    `json:"host"`
	Path     string    `json:"path"` // with the query, as it was sent
	Status   int       `json:"status"`
	GRPC     string    `json:"grpcStatus,omitempty"`
	Sent     int64     `json:"sent"` // bytes of the request's body
	Got      int64     `json:"got"`  // bytes of the answer's
	// By is whose session took the request, nil: the app answered. ID is its
	// registration's.
	By      *Owner `json:"by,omitempty"`
	ID      string `json:"id,omitempty"`
	Failure string `json:"failure,omitempty"` // why there is no whole answer
	// Meant is whose session was to answer a request that the app has answered, ID its
	// registration's, and Instead why it did not.
	Meant   *Owner `json:"meant,omitempty"`
	Instead string `json:"instead,omitempty"`
	// Missed is how many exchanges before this one were not told, since the watcher
	// did not read fast enough.
	Missed int64 `json:"missed,omitempty"`
}

// ReadExchanges calls seen with each exchange of a flow of ServiceWatch until it ends,
// and returns why.
func ReadExchanges(r io.Reader, seen func(Exchange)) error {
	for d := json.NewDecoder(r); ; {
		var e Exchange
		if err := d.Decode(&e); err != nil {
			return fmt.Errorf("read what the agent sees: %w", err)
		}
		seen(e)
	}
}
