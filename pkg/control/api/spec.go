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

// InterceptSpec is what intercept is asked for. Each port of each workload becomes
// an intercept of its own; they begin together, or not at all.
type InterceptSpec struct {
	// Workload is KIND/NAME or, for all the workloads behind a Service, svc/NAME.
	Workload string `json:"workload"`
	// Ports are the ports to take; none: the only one.
	Ports   []PortSpec `json:"ports,omitempty"`
	Service string     `json:"service,omitempty"`
	// Container is whose environment and files are meant; "" is the one that has the port.
	Container string `json:"container,omitempty"`
	// Match says which requests are meant: all of the conditions must hold. None:
	// all traffic.
	Match []Condition `json:"match,omitempty"`
	// Mirror sends copies to the handler, whose answers are dropped: the app answers.
	Mirror bool `json:"mirror,omitempty"`
	// Refuse answers requests with an error while the handler does not listen, in
	// place of the app's answer.
	Refuse bool `json:"refuse,omitempty"`
	// TakeOver ends intercepts that stand in the way and whose session is not reached.
	TakeOver bool `json:"takeOver,omitempty"`
	// LogRequests asks for a line in the session's log for each request that the
	// handler answers.
	LogRequests bool `json:"logRequests,omitempty"`
	// Record is the absolute path of a new file that requests and answers of the
	// handler are kept in; "" is none. RecordSecrets keeps credentials too.
	Record        string `json:"record,omitempty"`
	RecordSecrets bool   `json:"recordSecrets,omitempty"`
	// NoShortcut has this machine's own connections go through the cluster and back.
	NoShortcut bool `json:"noShortcut,omitempty"`
	// Lazy accepts a handler that does not listen yet.
	Lazy bool `json:"lazy,omitempty"`
	// Hold ties the intercept to the command that asked for it.
	Hold bool `json:"hold,omitempty"`
	// WithEnv asks for the container's environment along with the intercept.
	WithEnv bool `json:"withEnv,omitempty"`
	// FilesOnly takes no traffic: the agents are there for the files in Dir alone.
	FilesOnly bool `json:"filesOnly,omitempty"`
	// Dir is the absolute path of a folder in which the container's files are shown; "" is none.
	Dir string `json:"dir,omitempty"`
	// DirWrite lets them be changed there, which changes the pod's. DirCopy has them copied there once, to stay, instead.
	DirWrite     bool          `json:"dirWrite,omitempty"`
	DirCopy      bool          `json:"dirCopy,omitempty"`
	AgentImage   string        `json:"agentImage"`
	AllowRestart bool          `json:"allowRestart,omitempty"`
	Timeout      time.Duration `json:"timeout"`
}

// PortSpec is one port to take.
type PortSpec struct {
	// Port is a Service's or a container's, by name or number; "" if there is
	// just one.
	Port string `json:"port,omitempty"`
	// Handler is HOST:PORT of what answers; "" is the workload's port number on
	// localhost.
	Handler string `json:"handler,omitempty"`
}

// LeaveSpec says what to leave.
type LeaveSpec struct {
	// IDs are those of intercepts. Workload is KIND/NAME, or svc/NAME for what leads
	// from the Service. All leaves all.
	IDs      []string `json:"ids,omitempty"`
	Workload string   `json:"workload,omitempty"`
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
