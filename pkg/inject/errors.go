package inject

// Error is a failure a user can mend.
type Error struct {
	Fact string // what is the case, with the object's name
	Mend string // what to do about it; may be empty
	Err  error  // the cause; may be nil
}

func (e *Error) Error() string { return e.Fact }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *Error) Hint() string { return e.Mend }
