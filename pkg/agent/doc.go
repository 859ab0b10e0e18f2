// Package agent is what runs in a pod: it dials in the cluster for laptops,
// and captures a workload's ports, handing each new connection to the session
// whose registration holds the port or, when there is none, to the app.
//
// What a session can ask an agent for, and how, is in pkg/agent/api. Ports are
// captured from the start (Config.Captures) or added by a session while the
// agent runs; who holds them is decided by registrations, which live as long as
// their flows.
//
// The agent fails open: whenever a session does not answer, connections go to
// the app. It needs no Kubernetes API, no credentials and no disk. It owns no
// decision about how it got into the pod or how traffic reaches its ports.
//
// The app is always dialed at the pod's own address, never 127.0.0.1: apps
// trust loopback, and ports open there only must not become public.
package agent
