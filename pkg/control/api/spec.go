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
