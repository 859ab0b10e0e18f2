package api

// Failure is an error, with its hints, that crosses a process boundary.
type Failure struct {
	Message  string   `json:"message"`
	HintList []string `json:"hints,omitempty"`
}

// Error returns the message.
func (f *Failure) Error() string { return f.Message }

// Hints returns what the reader can do about the error (see pkg/hint).
func (f *Failure) Hints() []string { return f.HintList }
