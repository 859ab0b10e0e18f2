package api

import "time"

// ConnectSpec is what connect is asked for.
type ConnectSpec struct {
	// AgentImage is the image of the session's own agent.
	AgentImage string `json:"agentImage"`
	// Timeout bounds what the cluster has to do. The helper's password prompt
	// does not count.
	Timeout time.Duration `json:"timeout"`
}

// InterceptSpec is what intercept is asked for.
type InterceptSpec struct {
	Workload string `json:"workload"`
	// Port names the port to take: a Service's or a container's, by name or
	// number; "" if there is just one.
	Port    string `json:"port,omitempty"`
	Service string `json:"service,omitempty"`
	// Handler is HOST:PORT of what answers; "" is the workload's port number
	// on localhost.
	Handler string `json:"handler,omitempty"`
	// Match says which requests are meant: all of the conditions must hold. None:
	// all traffic.
	Match []Condition `json:"match,omitempty"`
	// Lazy accepts a handler that does not listen yet.
	Lazy bool `json:"lazy,omitempty"`
	// Hold ties the intercept to the command that asked for it.
	Hold bool `json:"hold,omitempty"`
	// WithEnv asks for the container's environment along with the intercept.
	WithEnv      bool          `json:"withEnv,omitempty"`
	AgentImage   string        `json:"agentImage"`
	AllowRestart bool          `json:"allowRestart,omitempty"`
	Timeout      time.Duration `json:"timeout"`
}

// LeaveSpec says what to leave.
type LeaveSpec struct {
	// Workload is the workload's name or an intercept's ID; All leaves all.
	Workload string `json:"workload,omitempty"`
	// Port is the name or number of the workload's port, where only that is meant.
	Port string `json:"port,omitempty"`
	All  bool   `json:"all,omitempty"`
}

// CleanSpec says what clean puts back. It is not sent to a session: clean needs
// none.
type CleanSpec struct {
	Workload string // "" is everything in the namespace
	Force    bool   // put back what a live session uses, too
	DryRun   bool   // report what would be done and change nothing
	Timeout  time.Duration
}
