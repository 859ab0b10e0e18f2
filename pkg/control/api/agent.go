package api

import "time"

// AgentStatus is one agent as this session sees it.
type AgentStatus struct {
	Pod    string `json:"pod"`
	Node   string `json:"node,omitempty"`
	Inject string `json:"inject"`
	// Up reports whether a tunnel is up now. Error is why it is not.
	Up    bool   `json:"up"`
	Error string `json:"error,omitempty"`
	// RTT is the tunnel's last measured round trip.
	RTT time.Duration `json:"rttNanoseconds,omitempty"`
	// Lanes is how many connections the tunnel has now.
	Lanes int `json:"lanes,omitempty"`
}
