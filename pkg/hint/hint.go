// Package hint attaches to an error what its reader can do about it. An error
// states one fact; a hint names the flag, the command or the missing right.
package hint

import (
	"errors"
	"slices"
)

// hinted is an error with something to do about it.
type hinted struct {
	error
	hints []string
}

func (h *hinted) Unwrap() error   { return h.error }
func (h *hinted) Hints() []string { return h.hints }

// Error is a failure that its reader can mend.
type Error struct {
	Fact string // what is the case, with the object's name
	Mend string // what to do about it; may be empty
	Err  error  // the cause; may be nil
}

// Error returns the fact.
func (e *Error) Error() string { return e.Fact }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint returns what to do about it.
func (e *Error) Hint() string { return e.Mend }

// With returns err with hints attached; a nil err stays nil.
func With(err error, hints ...string) error {
	if err == nil || len(hints) == 0 {
		return err
	}
	return &hinted{error: err, hints: hints}
}

// Of returns the hints of err and of every error it wraps, outermost first.
// Errors of other packages take part by a method Hint() string or
// Hints() []string.
func Of(err error) []string {
	var out []string
	add := func(h string) {
		if h != "" && !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	var walk func(error)
	walk = func(err error) {
		switch e := err.(type) { //nolint:errorlint // walk visits what is wrapped
		case interface{ Hints() []string }:
			for _, h := range e.Hints() {
				add(h)
			}
		case interface{ Hint() string }:
			add(e.Hint())
		}
		switch e := err.(type) { //nolint:errorlint // walk visits what is wrapped
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				walk(inner)
			}
		default:
			if inner := errors.Unwrap(err); inner != nil {
				walk(inner)
			}
		}
	}
	if err != nil {
		walk(err)
	}
	return out
}
