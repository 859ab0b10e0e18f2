// Package api is what the test applications and the tests that ask them have
// in common: the JSON of the answers and the content of large bodies.
package api

import (
	"net/http"
	"time"
)

// Echo is the answer to any path of the http application that has no meaning
// of its own.
type Echo struct {
	Pod     string      `json:"pod"`
	Version string      `json:"version"`
	Method  string      `json:"method"`
	Host    string      `json:"host"`
	Path    string      `json:"path"`
	Query   string      `json:"query,omitempty"`
	Proto   string      `json:"proto"`
	Headers http.Header `json:"headers"`
	Remote  string      `json:"remote"` // the client's address as the application sees it
	Local   string      `json:"local"`  // the address the client reached
	Body    Sum         `json:"body"`
}

// Sum describes a body without holding it.
type Sum struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Hop is the answer of /chain: this application, and the answer of the next
// one where there is one.
type Hop struct {
	Pod     string `json:"pod"`
	Version string `json:"version"`
	Next    *Hop   `json:"next,omitempty"`
	Error   string `json:"error,omitempty"` // why Next is missing
}

// Call is the outcome of one request made from inside the cluster, by /call
// or by `apps call`.
type Call struct {
	URL     string      `json:"url"`
	Status  int         `json:"status,omitempty"`
	Proto   string      `json:"proto,omitempty"`
	Headers http.Header `json:"headers,omitempty"`
	Sent    Sum         `json:"sent"`
	Got     Sum         `json:"got"`
	Body    string      `json:"body,omitempty"` // its first 64 KiB
	Millis  int64       `json:"millis"`
	Error   string      `json:"error,omitempty"`
}

// OK says whether the request was answered by a 2xx.
func (c Call) OK() bool { return c.Error == "" && c.Status/100 == 2 }

// Load is the outcome of `apps load`, many requests.
type Load struct {
	Requests  int            `json:"requests"`
	Failed    int            `json:"failed"`
	Failures  []string       `json:"failures,omitempty"` // the first 20
	Answers   map[string]int `json:"answers"`            // by "POD VERSION" of the echo, else by the first 40 bytes
	MaxMillis int64          `json:"maxMillis"`
	// P50 and P99 are of the requests that were answered, in microseconds.
	P50 int64 `json:"p50"`
	P99 int64 `json:"p99"`
}

// Sample is one request of `apps load -trace`.
type Sample struct {
	ID      string    `json:"id,omitempty"` // with -id: its header X-Id
	Begin   time.Time `json:"begin"`
	Millis  int64     `json:"millis"`
	By      string    `json:"by"` // who answered, as in Load.Answers
	Failure string    `json:"failure,omitempty"`
}

// End is when the request was over, rounded up.
func (s Sample) End() time.Time { return s.Begin.Add(time.Duration(s.Millis+1) * time.Millisecond) }

// TunnelKey is the key of the tunnels that the http application ends. It
// protects nothing.
func TunnelKey() []byte { return []byte("of the test applications' tunnel") }
