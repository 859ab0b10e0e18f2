package agent

import (
	"net/netip"
	"time"
)

// The agent's environment and defaults.
const (
	EnvKey   = "TELE_AGENT_KEY" // 64 hexadecimal digits, the tunnel's key
	EnvPodIP = "TELE_POD_IP"    // the pod's address, or all of them with commas between
	EnvPod   = "TELE_POD_NAME"

	DefaultControlPort = 15871
)

// What a tunnel's Target asks an agent for, and an agent a session.
const (
	NetworkService   = "agent"     // Target.Network of the agent's services
	NetworkIntercept = "intercept" // Target.Network of a captured connection; Address is the intercept's ID

	ServiceInfo      = "info"      // Address: answers one Info as JSON
	ServiceIntercept = "intercept" // Address: Meta is an InterceptRequest; lives as long as its flow
)

// Owner says whose intercept it is.
type Owner struct {
	User    string    `json:"user"`
	Host    string    `json:"host"`
	Session string    `json:"session"`
	Since   time.Time `json:"since"`
}

// InterceptRequest asks for the new connections of a captured port.
type InterceptRequest struct {
	ID    string `json:"id"`
	Port  uint16 `json:"port"` // the app's
	Owner Owner  `json:"owner"`
}

// Captured comes with each intercepted connection.
type Captured struct {
	Port   uint16 `json:"port"` // the app's
	Remote string `json:"remote"`
	Local  string `json:"local"`
}

// Capture is a port the agent listens on, and the app's port it stands for.
type Capture struct {
	Listen uint16 `json:"listen"`
	App    uint16 `json:"app"`
}

// CaptureInfo is a capture's state.
type CaptureInfo struct {
	Capture
	Intercept   *InterceptRequest `json:"intercept,omitempty"`
	Active      int               `json:"active"`      // open connections
	IdleSeconds float64           `json:"idleSeconds"` // since the last new connection; -1: there was none
}

// Info is what an agent tells about itself and its pod.
type Info struct {
	Version     string         `json:"version"`
	UpSeconds   float64        `json:"upSeconds"` // since the agent listens
	Pod         string         `json:"pod"`
	PodIPs      []netip.Addr   `json:"podIPs"`
	Nameservers []netip.Addr   `json:"nameservers"`
	Search      []string       `json:"search"`
	Routes      []netip.Prefix `json:"routes"`
	Captures    []CaptureInfo  `json:"captures"`
	Sessions    []string       `json:"sessions"`
}
