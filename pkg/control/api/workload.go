package api

import "time"

// WorkloadState is what list says of a workload.
type WorkloadState string

// The states of a workload.
const (
	// Ready: nobody intercepts it.
	Ready WorkloadState = "ready"
	// Intercepted: at least one live session does.
	Intercepted WorkloadState = "intercepted"
	// Mounted: live sessions show its files alone.
	Mounted WorkloadState = "mounted"
	// LeftBehind: it carries an agent that no live session uses.
	LeftBehind WorkloadState = "left-behind"
)

// Workload is a workload of any kind and who intercepts it.
type Workload struct {
	Kind       string          `json:"kind"`  // singular, in lower case: deployment
	Group      string          `json:"group"` // of the kind: apps
	Name       string          `json:"name"`
	Namespace  string          `json:"namespace"`
	Replicas   int32           `json:"replicas"`
	Ready      int32           `json:"ready"`
	State      WorkloadState   `json:"state"`
	Owners     []WorkloadOwner `json:"owners,omitempty"`
	Capture    []string        `json:"capture,omitempty"`
	AgentImage string          `json:"agentImage,omitempty"`
	// Opaque counts the connections whose requests could not be told apart, by
	// reason, since the agents that run now have started. They went to the app.
	Opaque map[string]int64 `json:"opaque,omitempty"`
}

// WorkloadOwner is one intercept of a workload, of any session.
type WorkloadOwner struct {
	User     string    `json:"user"`
	Host     string    `json:"host"`
	ID       string    `json:"id"`
	Port     uint16    `json:"port"`               // 0: the owner's are the files alone
	Protocol string    `json:"protocol,omitempty"` // udp; "" is TCP
	Since    time.Time `json:"since"`
	// Match spells which requests are meant; "" is all traffic.
	Match string `json:"match,omitempty"`
	// Taken counts the connections, or with a Match the requests, that the
	// session has taken.
	Taken int64 `json:"taken"`
	// Mirror says that these are copies, and Dropped how many were not delivered.
	Mirror  bool  `json:"mirror,omitempty"`
	Dropped int64 `json:"dropped,omitempty"`
	// Live reports whether an agent has the intercept in force now.
	Live bool `json:"live"`
}
