package session

import "github.com/kubectl-tele/kubectl-tele/pkg/hint"

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
	// The last event of an operation has exactly one of these.
	Error     *Failure         `json:"error,omitempty"`
	Status    *Status          `json:"status,omitempty"`
	Intercept *InterceptStatus `json:"intercept,omitempty"`
	// Env comes with Intercept where it was asked for: NAME=VALUE each.
	Env []string `json:"env,omitempty"`
	End bool     `json:"end,omitempty"`
}

// Progress receives events in order. It must not block for long.
type Progress func(Event)

func (p Progress) doing(text string) { p.emit(Event{Text: text}) }
func (p Progress) done(text string)  { p.emit(Event{Text: text, Done: true}) }
func (p Progress) warn(text string)  { p.emit(Event{Text: text, Warning: true}) }

func (p Progress) emit(e Event) {
	if p != nil {
		p(e)
	}
}

// Failure is an error that crossed a process boundary with its hints.
type Failure struct {
	Message  string   `json:"message"`
	HintList []string `json:"hints,omitempty"`
}

// NewFailure flattens err; nil stays nil.
func NewFailure(err error) *Failure {
	if err == nil {
		return nil
	}
	return &Failure{Message: err.Error(), HintList: hint.Of(err)}
}

func (f *Failure) Error() string { return f.Message }

// Hints says what to do about it.
func (f *Failure) Hints() []string { return f.HintList }
