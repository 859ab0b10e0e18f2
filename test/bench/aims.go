//go:build linux

package main

import "slices"

// aims compares what was measured with what it should be. What was not
// measured is left out, but what failed is not met.
func aims(r Report) (list []Aim) {
	ratio := func(name, row string, a, b Way, least float64) {
		found, _ := r.row(row, 0)
		switch {
		case found.Better(a, b) > 0:
			list = append(list, atLeast(name, found.Better(a, b), least))
		case found.Errors[a] != "" || found.Errors[b] != "":
			list = append(list, Aim{Name: name + ": failed", Want: "≥ " + number(least)})
		}
	}
	ratio("1 download: tunnel alone / bare stream", rowDown, Tunnel, Bare, 0.95)
	ratio("1 upload: tunnel alone / bare stream", rowUp, Tunnel, Bare, 0.95)
	ratio("1 download: kubectl tele / port-forward", rowDown, Tele, PortForward, 1.3)
	ratio("1 upload: kubectl tele / port-forward", rowUp, Tele, PortForward, 1.3)
	ratio("32 connections of small requests: kubectl tele / port-forward", rowSmallMany, Tele, PortForward, 3)
	ratio("small request: kubectl tele / port-forward (as speed)", rowSmall, Tele, PortForward, 1)
	if small, ok := r.row(rowSmall, 0); ok {
		if v := small.Better(Bare, Tunnel); v > 0 {
			list = append(list, atMost("small request's time: tunnel alone / bare stream", v, 1.15, ""))
		}
		if v := small.Better(Bare, Tele); v > 0 {
			list = append(list, atMost("small request's time: kubectl tele / bare stream", v, 1.6, ""))
		}
	}
	ratio("new connections, 1 at a time: kubectl tele / port-forward", rowNew, Tele, PortForward, 4)
	ratio("new connections, 32 at a time: kubectl tele / port-forward", rowNewMany, Tele, PortForward, 4)
	for _, row := range []string{rowDown, rowUp} {
		slow, ok1 := r.row(row, 80)
		fast, ok2 := r.row(row, 1)
		if ok1 && ok2 && fast.Values[Tele] > 0 && slow.Values[Tele] > 0 {
			list = append(list, atLeast(row+": at a round trip of 80 ms / at 1 ms", slow.Values[Tele]/fast.Values[Tele], 0.7))
		}
	}
	quiet, ok1 := r.row(rowTail, 20)
	busy, ok2 := r.row(rowTailBulk, 20)
	if ok1 && ok2 && quiet.Values[Tele] > 0 && busy.Values[Tele] > 0 {
		list = append(list, atMost("small request's p99 at 20 ms: during a download / without", busy.Values[Tele]/quiet.Values[Tele], 3, ""))
	}
	if n := len(r.Ends); n > 0 && !slices.ContainsFunc(r.Ends, func(e Ends) bool { return e.When == whenOpen(10_000) }) {
		list = append(list, Aim{Name: "10000 open connections: only " + r.Ends[n-1].When, Want: "≤ 100 MB session, ≤ 60 MB agent"})
	}
	for _, e := range r.Ends {
		switch e.When {
		case whenIdle:
			list = append(list, atMost("idle session", e.SessionMB, 60, "MB"), atMost("idle agent", e.AgentMB, 15, "MB"),
				atMost("idle session and agent, CPU", e.SessionCPU+e.AgentCPU, 0.005, "cores"))
		case whenOpen(10_000):
			list = append(list, atMost("session with 10000 open connections", e.SessionMB, 100, "MB"), atMost("agent with 10000 open connections", e.AgentMB, 60, "MB"))
		}
	}
	return append(list, routeAims(r)...)
}

func (r Report) row(name string, rtt int) (Row, bool) {
	for _, row := range r.Rows {
		if row.Name == name && row.RTT == rtt {
			return row, true
		}
	}
	return Row{}, false
}

func atLeast(name string, value, least float64) Aim {
	return Aim{Name: name, Want: "≥ " + number(least), Value: value, Met: value >= least}
}

func atMost(name string, value, most float64, unit string) Aim {
	want := "≤ " + number(most)
	if unit != "" {
		want += " " + unit
	}
	return Aim{Name: name, Want: want, Value: value, Unit: unit, Met: value <= most}
}
