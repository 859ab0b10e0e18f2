// Package agent is what runs in a pod: it dials in the cluster for laptops,
// and captures a workload's ports, handing each new connection to the session
// that intercepts the port or, when there is none, to the app.
//
// It fails open: whenever a session does not answer, connections go to the
// app. It needs no Kubernetes API, no credentials and no disk. It owns no
// decision about how it got into the pod or how traffic reaches its ports.
//
// The app is always dialed at the pod's own address, never 127.0.0.1: apps
// trust loopback, and ports open there only must not become public.
package agent
