//go:build linux

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Way is how the pod is reached.
type Way string

// The ways that are compared.
const (
	Tele        Way = "kubectl tele"         // through TUN and lanes
	Tunnel      Way = "tunnel alone"         // one lane from the benchmark's process to the app's: no TUN, no agent
	Bare        Way = "bare stream"          // a port-forward stream of its own for each connection
	Bare4       Way = "4 bare streams"       // a bulk transfer divided among four
	PortForward Way = "kubectl port-forward" // what everybody has
)

// Ways is all of them, in the order in which they are shown.
var Ways = []Way{Tele, PortForward, Tunnel, Bare, Bare4}

// Report is everything that one run measured.
type Report struct {
	Date    time.Time `json:"date"`
	Machine Machine   `json:"machine"`
	Bytes   int64     `json:"bytes"`  // of a bulk transfer
	Rounds  int       `json:"rounds"` // of which the median counts
	Rows    []Row     `json:"rows"`
	Ends    []Ends    `json:"ends,omitempty"`
	Routes  []Route   `json:"routes,omitempty"`
	Figures []Figure  `json:"figures,omitempty"`
	Aims    []Aim     `json:"aims,omitempty"`
}

// Machine is where it was measured.
type Machine struct {
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	Kernel  string `json:"kernel"`
	Go      string `json:"go"`
	Version string `json:"version"` // of kubectl tele
}

// Row is one measurement of all ways at one round trip time.
type Row struct {
	Name   string          `json:"name"`
	Unit   string          `json:"unit"` // MB/s, req/s and conn/s: more is better; ms and s: less is
	RTT    int             `json:"rtt"`  // added between laptop and API server, ms
	Values map[Way]float64 `json:"values"`
	Errors map[Way]string  `json:"errors,omitempty"` // why a value is missing
}

// Better is how many times better one way is than another; 0 if one of them
// has no value.
func (r Row) Better(a, b Way) float64 {
	x, y := r.Values[a], r.Values[b]
	switch {
	case x == 0 || y == 0:
		return 0
	case r.Unit == "ms" || r.Unit == "s":
		return y / x
	default:
		return x / y
	}
}

// Ends is what both ends of a session need.
type Ends struct {
	When       string  `json:"when"`
	SessionMB  float64 `json:"sessionMB"` // resident, 1e6 bytes
	AgentMB    float64 `json:"agentMB"`
	SessionCPU float64 `json:"sessionCPU"` // cores, over some seconds
	AgentCPU   float64 `json:"agentCPU"`
}

// Figure is a time that the product promises, and what it took.
type Figure struct {
	Name     string  `json:"name"`
	Promised string  `json:"promised"`
	Seconds  float64 `json:"seconds"`
}

// Aim is what a ratio or an amount should be, and is.
type Aim struct {
	Name  string  `json:"name"`
	Want  string  `json:"want"` // such as ">= 1.3"
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
	Met   bool    `json:"met"`
}

// print writes tables for people.
func (r Report) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	for i, row := range r.Rows {
		if i == 0 || row.RTT != r.Rows[i-1].RTT {
			if i > 0 {
				line("")
			}
			line("round trip + %d ms\tunit\t%s\t%s\tratio\t%s\t%s\t%s", row.RTT, Tele, PortForward, Tunnel, Bare, Bare4)
		}
		line("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", row.Name, row.Unit, row.Show(Tele), row.Show(PortForward),
			number(row.Better(Tele, PortForward)), row.Show(Tunnel), row.Show(Bare), row.Show(Bare4))
	}
	if len(r.Routes) > 0 {
		line("")
		line("small requests in the cluster\tprotocol\tat once\tp50, ms\tp99, ms\treq/s")
		for _, route := range r.Routes {
			line("%s\t%s\t%d\t%.2f\t%.2f\t%.0f", route.Case, route.Protocol, route.Connections, route.P50, route.P99, route.PerSecond)
		}
	}
	if len(r.Ends) > 0 {
		line("\n\tsession MB\tagent MB\tsession CPU\tagent CPU")
		for _, e := range r.Ends {
			line("%s\t%.1f\t%.1f\t%.3f\t%.3f", e.When, e.SessionMB, e.AgentMB, e.SessionCPU, e.AgentCPU)
		}
	}
	if len(r.Figures) > 0 {
		line("")
		for _, f := range r.Figures {
			line("%s\t%.2f s\tpromised: %s", f.Name, f.Seconds, f.Promised)
		}
	}
	if len(r.Aims) > 0 {
		line("\naim\twanted\tis\t")
		for _, a := range r.Aims {
			line("%s\t%s\t%s\t%s", a.Name, a.Want, number(a.Value)+" "+a.Unit, a.Verdict())
		}
	}
	return w.Flush()
}

// Show is a value as people read it.
func (r Row) Show(w Way) string {
	if r.Errors[w] != "" {
		return "failed"
	}
	return number(r.Values[w])
}

// number has three digits; nothing for what was not measured.
func number(v float64) string {
	switch {
	case v == 0:
		return ""
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// Verdict says whether the aim is met.
func (a Aim) Verdict() string {
	if a.Met {
		return "met"
	}
	return "NOT met"
}
