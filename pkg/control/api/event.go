package api

// Event is one line of progress of a long operation, or its end. Events are
// JSON lines between the background session and the command that waits for it.
type Event struct {
	// Text says what is being done or, when Done is set, what was done.
	Text string `json:"text,omitempty"`
	Done bool   `json:"done,omitempty"`
	// Warning marks a Text that the user should read but that stops nothing.
	Warning bool `json:"warning,omitempty"`
	// HelperSocket asks the command to start the privileged helper for this
	// socket: only a person at a terminal can give a password.
	HelperSocket string `json:"helperSocket,omitempty"`
	// The last event of an operation has Error, or has End and perhaps Status
	// or Intercepts.
	Error      *Failure          `json:"error,omitempty"`
	Status     *Status           `json:"status,omitempty"`
	Intercepts []InterceptStatus `json:"intercepts,omitempty"`
	// Env comes with Intercepts where it was asked for: NAME=VALUE each.
	Env []string `json:"env,omitempty"`
	End bool     `json:"end,omitempty"`
}
