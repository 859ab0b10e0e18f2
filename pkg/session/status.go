package session

import (
	"net/netip"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// Status is everything a session tells about itself.
type Status struct {
	ID       string `json:"id"`
	Identity `json:",inline"`
	PID      int       `json:"pid"`
	Since    time.Time `json:"since"`
	Log      string    `json:"log,omitempty"`
	// Network is nil in a session that only intercepts.
	Network    *NetworkStatus    `json:"network,omitempty"`
	Intercepts []InterceptStatus `json:"intercepts"`
}

// NetworkStatus is what connect has made.
type NetworkStatus struct {
	Agent    AgentStatus    `json:"agent"`
	Device   string         `json:"device"`
	Services []netip.Prefix `json:"services"`
	Pods     []netip.Prefix `json:"pods"`
	// Skipped are cluster ranges that the laptop already routes elsewhere.
	Skipped []netip.Prefix `json:"skipped,omitempty"`
	Domain  string         `json:"domain"`
	DNS     netip.Addr     `json:"dns"`
	DNSMode string         `json:"dnsMode,omitempty"`
	// HelperGone says that the privileged helper was ended by somebody: all
	// works, but the next connect or quit has to clean up after it.
	HelperGone bool `json:"helperGone,omitempty"`
}

// AgentStatus is one agent as this session sees it.
type AgentStatus struct {
	Pod    string `json:"pod"`
	Node   string `json:"node,omitempty"`
	Inject string `json:"inject"`
	// Up says whether a tunnel is up now; Error is why the last one is not.
	Up    bool   `json:"up"`
	Error string `json:"error,omitempty"`
	// RTT is the tunnel's last measured round trip.
	RTT time.Duration `json:"rttNanoseconds,omitempty"`
	// Lanes is how many connections the tunnel has now.
	Lanes int `json:"lanes,omitempty"`
}

// InterceptState is where an intercept stands.
//
//	starting -> active <-> degraded -> leaving
type InterceptState string

// The states of an intercept.
const (
	// Starting: the workload is being changed or agents are being reached.
	Starting InterceptState = "starting"
	// Active: every agent of the workload sends its traffic here.
	Active InterceptState = "active"
	// Degraded: at least one agent does not; its traffic goes to the app.
	Degraded InterceptState = "degraded"
	// Leaving: the traffic is going back.
	Leaving InterceptState = "leaving"
)

// InterceptStatus is one intercept.
type InterceptStatus struct {
	ID        string   `json:"id"`
	Workload  string   `json:"workload"`
	Namespace string   `json:"namespace"`
	Container string   `json:"container"`
	Port      uint16   `json:"port"`
	Services  []string `json:"services"`
	Inject    string   `json:"inject"`
	Capture   []string `json:"capture"`
	Handler   string   `json:"handler"`
	// HandlerError is why the handler was not reached by the last connection,
	// which the app got.
	HandlerError string `json:"handlerError,omitempty"`

	State  InterceptState `json:"state"`
	Agents []AgentStatus  `json:"agents"`
	Owner  api.Owner      `json:"owner"`
	// Notice says what others did to the workload meanwhile.
	Notice string `json:"notice,omitempty"`
}
